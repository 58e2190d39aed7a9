"""What a user may hand over by mistake, or run out of: each is said with the place and what to do."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.tokenized.dataset import read_fingerprint

_PREPARE = """
import sys, tempfile
from tests.core.data.samples import contract_for
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, read_corpus
from transformer_foundry.core.base.errors import DataError
try:
    options, contract = DataOptions(source=sys.argv[1], tokenizer="bytes"), contract_for("causal_lm", 256)
    corpus = read_corpus(options, "causal_lm")
    tokenizer = fit_tokenizer(corpus, contract, options)
    print("ready", flush=True)
    prepare_splits(corpus, tokenizer, contract, options, sys.argv[2] if len(sys.argv) > 2 else None)
except DataError as err:
    print(err)
"""


def read(path, task="causal_lm", **options):
    return read_corpus(DataOptions(source=str(path), **options), task)


def write_text(path, copies=1):
    path.write_text("\n\n".join(f"{copy} {text}" for copy in range(copies) for text in sentences(100)))
    return path


def test_a_line_that_does_not_fit_into_memory_is_refused_by_number(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "fine"}\n' * 300)
        file.write(b"x" * 17 * 2**20 + b"\n")
    with pytest.raises(DataError, match=r"a.jsonl, line 301: it is longer than 17 MB") as caught:
        _ = read(path).assignment
    assert "fold -s" in caught.value.remedy


def test_lines_that_are_many_and_short_are_no_long_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a line of some length that is repeated"}\n' * 400_000)
    assert path.stat().st_size > 16 * 2**20
    assert len(read(path, max_documents=10).columns.text) == 4


def test_a_huge_json_object_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("transformer_foundry.core.data.sources.files.json_tables.document._LARGEST_OBJECT", 10**6)
    path = tmp_path / "a.json"
    path.write_text('{"data": [' + " " * 3 * 10**6)
    with pytest.raises(DataError, match="one JSON object of more than 1 MB") as caught:
        read(path)
    assert "jsonl" in caught.value.remedy


def test_zero_bytes_in_a_text_are_refused_by_place(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b"[" + b" " * 5000)
        file.truncate(2**29)  # sparse
    with pytest.raises(DataError, match=r"a.json is binary and no known format: byte 5001 is zero"):
        read(path)


def test_an_empty_held_out_split_is_cut_from_train(tmp_path):
    (tmp_path / "train.csv").write_text("text\n" + "".join(f"{text}\n" for text in sentences(50)))
    (tmp_path / "validation.csv").write_text("text\n")
    corpus = read(tmp_path)
    assert corpus.source.splits == ("train",)
    assert corpus.assignment.counts["validation"] >= 1


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_truncated_parquet_is_refused(tmp_path, cut):
    import pandas as pd

    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": sentences(500)}).to_parquet(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(DataError, match="is truncated or not a parquet file"):
        read(path)


def test_a_parquet_that_is_damaged_inside_is_refused_by_name(tmp_path):
    import pandas as pd

    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": sentences(500)}).to_parquet(path)
    data = bytearray(path.read_bytes())
    data[50:2000] = bytes(1950)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a.parquet cannot be read"):
        _ = read(path).assignment


def test_arrow_files_are_read(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": sentences(40)}).save_to_disk(tmp_path / "saved")
    assert sum(read(tmp_path / "saved").assignment.counts.values()) == 40


def run_child(*arguments, **settings):
    command = [sys.executable, "-c", _PREPARE, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.getcwd(), **settings)


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    source = write_text(tmp_path / "a.txt", copies=60)

    def allow_little():
        # Beyond this size a write fails as it does on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17))

    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    with run_child(source, preexec_fn=allow_little, env=environment) as child:
        output = child.stdout.read()
    assert "cannot be written" in output
    assert "GB are free" in output
    assert not list((tmp_path / "tmp").glob("token-splits-*"))


@pytest.mark.slow
def test_a_killed_preparation_leaves_nothing_that_looks_finished_and_the_next_one_clears_up(tmp_path):
    source, folder = write_text(tmp_path / "a.txt", copies=60), tmp_path / "tmp"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    with run_child(source, env=environment) as child:
        assert child.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while not list(folder.glob("token-splits-*/*/*.bin")) and time.monotonic() < deadline:
            pass
        child.send_signal(signal.SIGKILL)
    (left,) = folder.glob("token-splits-*")
    assert read_fingerprint(left) is None
    with run_child(source, env=environment) as child:
        child.stdout.read()
    (made,) = folder.glob("token-splits-*")
    assert made != left
    assert read_fingerprint(made) is not None
