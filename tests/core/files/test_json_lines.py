from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_foundry.core.files.json_lines import append_row, read_rows, rows_up_to

rows = st.lists(
    st.fixed_dictionaries({"step": st.integers(0, 9), "samples": st.lists(st.text(max_size=5), max_size=2)})
)


@settings(max_examples=60)
@given(rows)
def test_what_is_appended_is_read(tmp_path_factory: Any, written: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    for row in written:
        append_row(path, row)
    assert read_rows(path) == written


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "train/loss": 2.5}\n{"step": 2, "train/lo')
    assert read_rows(path) == [{"step": 1, "train/loss": 2.5}]


def test_rows_up_to_a_step_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1,   "a": 0.10}\n{"step": 2}\nnoise\n{"step": 3}\n')
    assert rows_up_to(path, 2) == '{"step": 1,   "a": 0.10}\n{"step": 2}\n'


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.jsonl") == []
    assert rows_up_to(tmp_path / "metrics.jsonl", 5) == ""


def test_numbers_that_json_has_no_word_for_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_row(path, {"step": 1, "a": float("inf"), "b": float("nan"), "c": 1.0})
    assert read_rows(path) == [{"step": 1, "c": 1.0}]


def test_a_row_waits_for_space_and_leaves_no_part_of_a_line(tmp_path, monkeypatch, caplog):
    disk, waits = tmp_path / "disk", []
    disk.symlink_to("/dev")  # what the system itself says of a full disk, in /dev/full
    path = disk / "full"

    def free(_seconds):
        waits.append(1)
        if len(waits) == 3:
            disk.unlink()
            disk.mkdir()

    monkeypatch.setattr("transformer_foundry.core.files.atomic.time.sleep", free)
    append_row(path, {"step": 1})
    append_row(path, {"step": 2})
    assert read_rows(path) == [{"step": 1}, {"step": 2}]
    assert caplog.text.count("is full: waiting up to 30 s") == 1


def test_a_disk_that_stays_full_is_an_error_after_half_a_minute(monkeypatch):
    path, clock = Path("/dev/full"), [0.0]
    monkeypatch.setattr("transformer_foundry.core.files.atomic.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "transformer_foundry.core.files.atomic.time.sleep", lambda _: clock.__setitem__(0, clock[0] + 1)
    )
    with pytest.raises(OSError, match="No space left"):
        append_row(path, {"step": 1})
    assert 30 <= clock[0] <= 32
