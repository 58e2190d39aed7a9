"""A column that names the split of each row."""

from __future__ import annotations

import json
import re

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
    "with set": renamed("set", {"train": "Training set", "dev": "dev set", "test": "Test set"}),
    "shortened": renamed("partition", {"train": "tr", "dev": "va", "test": "te"}),
    "shortened to three": renamed("split", {"train": "trn", "dev": "dev", "test": "tst"}),
    "hyphens": renamed("split", {"train": "train-clean", "dev": "dev-clean", "test": "test-other"}),
    "German": renamed("split", {"train": "Trainingsdaten", "dev": "Validierung", "test": "Testdaten"}),
    "Vertex AI": renamed("ml_use", {"train": "TRAIN", "dev": "VALIDATE", "test": "TEST"}),
    "years": renamed("origin", {"train": "train_2019", "dev": "dev_2020", "test": "test_2020"}),
    "held out": renamed("fold", {"train": "train", "dev": "dev", "test": "held-out"}),
    "a contest": renamed("Usage", {"train": "Training", "dev": "PublicTest", "test": "PrivateTest"}),
}


@pytest.mark.parametrize("name", USED)
@pytest.mark.parametrize("task", ["sequence_classification", "causal_lm"])
def test_the_rows_of_each_split_are_those_that_the_column_names(tmp_path, name, task):
    corpus = corpus_of(tmp_path, USED[name], task)
    found = {document.text: split for split, document in corpus.all_documents()}
    assert found == {row["text"]: SPLITS[row["split"]] for row in ROWS}
    assert any("train 24, validation 8, test 8" in note for note in corpus.source.notes)


FLAGGED = {
    "is_train": lambda split: split == "train",
    "isTest": lambda split: int(split != "train"),
    "is_holdout": lambda split: "no" if split == "train" else "Yes",
    "in_test": lambda split: "f" if split == "train" else "t",
    "in_holdout_set": lambda split: str(split != "train"),
}


@pytest.mark.parametrize("name", FLAGGED)
@pytest.mark.parametrize("task", ["sequence_classification", "causal_lm"])
def test_a_column_of_yes_and_no_marks_the_split(tmp_path, name, task):
    rows = [{"text": row["text"], "label": row["label"], name: FLAGGED[name](row["split"])} for row in ROWS]
    corpus = corpus_of(tmp_path, rows, task)
    held_out = {row["text"] for row in ROWS if row["split"] != "train"}
    assert {document.text for document in corpus.source.documents("test")} == held_out
    assert len(list(corpus.source.documents("train"))) == 24


def test_a_column_that_may_mark_the_split_asks(tmp_path):
    rows = [{"text": row["text"], "label": row["label"], "train": row["split"] == "train"} for row in ROWS]
    with pytest.raises(DataError, match="Column train has only yes and no") as caught:
        corpus_of(tmp_path, rows)
    assert "data.split_column=train to hold them out" in caught.value.remedy
    assert corpus_of(tmp_path, rows, split_column="train").source.splits == ("train", "test")
    assert corpus_of(tmp_path, rows, split_column="").source.splits == ("train",)


REFUSED = {  # what is said of rows: where the cell of a split is not one of the split that it stands for
    "only test is marked": (renamed("split", SPLITS | {"train": "", "dev": ""}), "line 1: .* is ''"),
    "null": (renamed("set", {"train": None, "dev": None, "test": "test"}), "line 1: .* is ''"),
    "some are empty": (renamed("split", SPLITS | {"dev": ""}), "line 4: .* is ''"),
    "unassigned": (renamed("ml_use", SPLITS | {"dev": "UNASSIGNED"}), "line 4: .* is 'UNASSIGNED'"),
    "two tests": (renamed("split", SPLITS | {"dev": "test_scaffolds"}), "line 4: .* is 'test_scaffolds'"),
    "is_valid": (renamed("is_valid", {"train": False, "dev": True, "test": False}), "is_valid has only yes and no"),
    "numbers": (renamed("partition", {"train": 0, "dev": 1, "test": 2}), "partition has numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_column_that_names_splits_in_part_is_refused(tmp_path, name):
    rows, said = REFUSED[name]
    with pytest.raises(DataError, match=said) as caught:
        corpus_of(tmp_path, rows)
    assert "data.split_column=''" in caught.value.remedy
    assert corpus_of(tmp_path, rows, split_column="").source.splits == ("train",)


def test_masks_of_each_split_are_refused(tmp_path):
    rows = [
        {"text": row["text"], "label": row["label"]} | {f"{split}_mask": row["split"] == split for split in SPLITS}
        for row in ROWS
    ]
    with pytest.raises(DataError, match="Columns train_mask, dev_mask, test_mask mark the split"):
        corpus_of(tmp_path, rows)


WARNED = {
    "another value": (
        renamed("subset", {"train": "bus", "dev": "test", "test": "law"}),
        "subset has test, .* bus, law",
    ),
    "a column of another name": (renamed("by", SPLITS | {"dev": "law"}), "by has train, test, .* also law"),
    "shares of train": (
        renamed("split", {"train": "train[:80%]", "dev": "train[80%:90%]", "test": "train[90%:]"}),
        "split has only train",
    ),
    "no train": (renamed("split", {"train": "test", "dev": "dev", "test": "test"}), "split has no rows for train"),
}


@pytest.mark.parametrize("name", WARNED)
def test_a_column_that_looks_like_splits_and_is_not_used_is_a_warning(tmp_path, name):
    rows, said = WARNED[name]
    corpus = corpus_of(tmp_path, rows)
    assert corpus.source.splits == ("train",)
    (warning,) = corpus.columns.warnings
    assert re.search(said, warning)


NO_SPLITS = {
    "valid and invalid": ("status_set", ("valid", "invalid")),
    "sets of essays": ("essay_set", (1, 2, 3)),
    "folds": ("fold", (0, 1, 2, 3, 4)),
    "languages": ("language", ("tr", "te")),
    "departments": ("department", ("dev", "ops")),
    "topics": ("subset", ("train station", "bus")),
    "all for training": ("split", ("train",)),
    "never wrong": ("is_valid", (True,)),
    "nothing assigned": ("ml_use", ("UNASSIGNED",)),
}


@pytest.mark.parametrize("name", NO_SPLITS)
def test_a_column_that_says_nothing_of_splits_is_no_warning(tmp_path, name):
    column, values = NO_SPLITS[name]
    rows = [{"text": row["text"], "label": row["label"], column: values[n % len(values)]} for n, row in enumerate(ROWS)]
    corpus = corpus_of(tmp_path, rows)
    assert corpus.source.splits == ("train",)
    assert corpus.columns.warnings == ()


def test_splits_that_begin_far_below_are_found(tmp_path):
    rows = [{"text": f"{text} {n}", "split": "test" if n > 150 else ""} for n, text in enumerate(sentences(160))]
    with pytest.raises(DataError, match="line 1: the split"):
        corpus_of(tmp_path, rows, "causal_lm")


def test_a_topic_among_labels_of_yes_and_no_marks_no_split(tmp_path):
    rows = [{"text": row["text"], "train": n % 2, "bus": n % 3 % 2} for n, row in enumerate(ROWS)]
    corpus = corpus_of(tmp_path, rows)
    assert corpus.source.splits == ("train",)
    assert corpus.label_names == ("train", "bus")


def test_several_columns_that_mark_splits_are_refused(tmp_path):
    rows = [{"text": row["text"], "is_train": n % 2, "is_val": 1 - n % 2} for n, row in enumerate(ROWS)]
    with pytest.raises(DataError, match="Columns is_train, is_val mark the split"):
        corpus_of(tmp_path, rows, "causal_lm")


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


def test_numbers_of_splits_are_refused(tmp_path):
    rows = [row | {"split": WORDS.index(row["split"])} for row in ROWS]
    with pytest.raises(DataError, match="Column split has numbers, which name no split: 0, 3, 4"):
        corpus_of(tmp_path, rows)
    assert corpus_of(tmp_path, rows, split_column="").source.splits == ("train",)


@pytest.mark.parametrize("other", ["maybe", ""])
def test_a_cell_that_is_no_yes_or_no_is_refused_with_what_is(tmp_path, other):
    rows = [row | {"is_test": 1 if number % 5 == 0 else other} for number, row in enumerate(renamed("by"))]
    with pytest.raises(DataError, match=rf"line 2: the split \(column is_test\) is '{other}'") as caught:
        corpus_of(tmp_path, [{"text": row["text"], "is_test": row["is_test"]} for row in rows], "causal_lm")
    assert "Expected one of 1 and 0 (or yes and no), or of train" in caught.value.expected


@pytest.mark.parametrize("name", ["valid", "split"])
def test_numbers_beside_files_of_each_split_are_no_splits(tmp_path, name):
    for number, split in enumerate(("train", "test")):
        rows = [{"text": text, name: place % 2} for place, text in enumerate(sentences(40)[number::2])]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path)), "causal_lm").source
    assert source.splits == ("train", "test")
    assert source.columns.text == "text"
