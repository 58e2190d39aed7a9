from __future__ import annotations

from pathlib import Path
from typing import Any

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
