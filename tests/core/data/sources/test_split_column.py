"""A column that names the split of each row."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus

WORDS = ("train", "train", "train", "dev", "test")
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
ROWS = [
    {"text": text, "label": "ab"[number % 2], "split": WORDS[number % 5]} for number, text in enumerate(sentences(40))
]


def corpus_of(folder, rows, task="sequence_classification", **options):
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_corpus(DataOptions(source=str(path), **options), task)


def renamed(name, words=SPLITS):
    return [{"text": row["text"], "label": row["label"], name: words[row["split"]]} for row in ROWS]


USED = {
    "split": ROWS,
    "sorted": sorted(ROWS, key=lambda row: WORDS.index(row["split"])),
    "capitals": renamed("Set", {"train": "TRAIN", "dev": "Valid", "test": "Test"}),
    "another name": renamed("usage"),
}


@pytest.mark.parametrize("name", USED)
@pytest.mark.parametrize("task", ["sequence_classification", "causal_lm"])
def test_the_rows_of_each_split_are_those_that_the_column_names(tmp_path, name, task):
    corpus = corpus_of(tmp_path, USED[name], task)
    found = {document.text: split for split, document in corpus.all_documents()}
    assert found == {row["text"]: SPLITS[row["split"]] for row in ROWS}
    assert any("train 24, validation 8, test 8" in note for note in corpus.source.notes)


NOT_USED = {
    "a word of another meaning": [row | {"split": "by hand"} for row in ROWS],
    "some rows of another meaning": [row | {"split": "bus" if row["split"] == "dev" else "train"} for row in ROWS],
    "one split": [row | {"split": "train"} for row in ROWS],
    "no train": [row | {"split": "test"} for row in ROWS],
}


@pytest.mark.parametrize("name", NOT_USED)
def test_a_column_that_names_no_splits_draws_them(tmp_path, name):
    rows = [{"text": row["text"], "label": row["label"], "by": row["split"]} for row in NOT_USED[name]]
    assert corpus_of(tmp_path, rows).source.splits == ("train",)


def test_the_option_turns_it_off_and_names_it(tmp_path):
    assert corpus_of(tmp_path, ROWS, split_column="").source.splits == ("train",)
    assert corpus_of(tmp_path, ROWS, split_column="split").source.splits == tuple(SPLITS.values())
    with pytest.raises(DataError, match=r"no column splti \(data.split_column\). Did you mean"):
        corpus_of(tmp_path, ROWS, split_column="splti")


def test_a_split_is_no_class(tmp_path):
    rows = [{"text": row["text"], "split": row["split"]} for row in ROWS]
    with pytest.raises(DataError, match=r"has the name of a label; its columns: text\."):
        corpus_of(tmp_path, rows)
    assert corpus_of(tmp_path, rows, label_column="split").label_names == ("dev", "test", "train")


def test_a_row_of_no_split_and_one_with_a_wrong_label_are_named(tmp_path):
    with pytest.raises(DataError, match=r"line 41: the split \(column split\) is 'extra'"):
        corpus_of(tmp_path, [*ROWS, {"text": "one more", "label": "a", "split": "extra"}])
    wrong = [row | {"label": None} if number == 14 else row for number, row in enumerate(ROWS)]
    with pytest.raises(DataError, match=r"line 15: the label \(column label\) is missing"):
        list(corpus_of(tmp_path, wrong).all_documents())


def test_data_split_chooses_rows_by_the_column(tmp_path):
    corpus = corpus_of(tmp_path, ROWS, split="train")
    assert {document.text for _, document in corpus.all_documents()} == {
        r["text"] for r in ROWS if r["split"] == "train"
    }
