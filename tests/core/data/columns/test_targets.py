"""What a text is trained to give, decided by the number of outputs and by the cells."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from tests.core.data.samples import contract_for, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import (
    Batches,
    DataOptions,
    fit_tokenizer,
    prepare_splits,
    profile_splits,
    read_corpus,
)

TEXTS = sentences(60)
CLASS, SEVERAL, NUMBER = "sequence_classification", "multi_label_classification", "regression"


def write(folder, columns, name="a.jsonl"):
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path = folder / name
    if name.endswith("csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(folder, columns, num_labels=None, task=CLASS, name="a.jsonl", **options):
    path = write(folder, columns, name)
    return read_corpus(DataOptions(source=str(path), **options), task, num_labels)


def repeat(*values):
    return [values[number % len(values)] for number in range(60)]


KINDS = {
    "floats and one output": ({"text": TEXTS, "label": repeat(0.5, 3.8, 2.0)}, 1, NUMBER),
    "whole floats and one output": ({"text": TEXTS, "label": repeat("2.0", "4.0", "1.0")}, 1, NUMBER),
    "whole floats and five outputs": ({"text": TEXTS, "label": repeat("2.0", "4.0", "1.0")}, 5, CLASS),
    "similarity of a pair": ({"sentence1": TEXTS, "sentence2": TEXTS[::-1], "score": repeat(0.1, 4.9)}, 1, NUMBER),
    "a number by its last word": ({"id": range(60), "text": TEXTS, "similarity_score": repeat(1, 5, 3)}, 1, NUMBER),
    "yes or no and one output": ({"text": TEXTS, "label": repeat(0, 1)}, 1, SEVERAL),
    "columns of 0 and 1": ({"id": range(60), "text": TEXTS, "bad": repeat(1, 0, 0), "rude": repeat(0, 1)}, 2, SEVERAL),
    "columns of booleans": ({"text": TEXTS, "bad": repeat(True, False), "rude": repeat(False, True)}, 2, SEVERAL),
    "label beside flags": ({"text": TEXTS, "label": repeat("a", "b"), "x": repeat(0, 1), "y": repeat(1)}, 2, CLASS),
    "lists of 0 and 1": ({"text": TEXTS, "labels": repeat([1, 0, 1], [0, 0, 0], [0, 1, 1])}, 3, SEVERAL),
    "lists of names": ({"text": TEXTS, "tags": repeat(["a", "b"], ["b"], [])}, 2, SEVERAL),
    "lists of numbers": ({"text": TEXTS, "labels": repeat([3], [0, 3], [7])}, 3, SEVERAL),
    "lists as text": ({"text": TEXTS, "labels": repeat("['a', 'b']", "['b']")}, 2, SEVERAL),
    "joined names": ({"text": TEXTS, "genre": repeat("Drama|Crime", "Crime", "Drama")}, 2, SEVERAL),
    "names with commas": ({"text": TEXTS, "category": repeat("Business, Finance", "Science, Tech")}, 2, CLASS),
    "towns": ({"text": TEXTS, "label": repeat("Albany, NY", "Utica, NY", "Salem, OR")}, 3, CLASS),
    "joined numbers": ({"text": TEXTS, "labels": repeat("27", "2,3", "10,2", "3", "10")}, 30, SEVERAL),
    "decimal commas": ({"text": TEXTS, "label": repeat("3,8", "0,25", "2")}, 1, NUMBER),
    "names with a slash": ({"text": TEXTS, "label": repeat("and/or", "not")}, 2, CLASS),
    "classes": ({"text": TEXTS, "label": repeat(0, 1, 4)}, 5, CLASS),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_task_is_decided_by_the_outputs_and_the_cells(tmp_path, kind):
    columns, num_labels, expected = KINDS[kind]
    for name in ("a.jsonl", "a.csv"):
        assert read(tmp_path, columns, num_labels, name=name).task == expected, name


def test_the_decision_is_said_in_a_sentence(tmp_path):
    corpus = read(tmp_path, {"text": TEXTS, "score": repeat(0.5, 3.8)}, 1)
    assert corpus.source.notes[-1].startswith("Each text has a number (column score), as the model has one output")
    whole = read(tmp_path, {"text": TEXTS, "label": repeat("2.0", "4.0")}, 5)
    assert "read as classes, as the model has 5 outputs" in whole.source.notes[-1]


def test_the_decision_can_be_set(tmp_path):
    flags = {"text": TEXTS, "label": repeat(0, 1)}
    assert read(tmp_path, flags, 1, NUMBER).task == NUMBER
    joined = {"text": TEXTS, "label": repeat("a|b", "b", "a")}
    assert read(tmp_path, joined, 3, label_separator="").label_names == ("a", "a|b", "b")
    columns = {"text": TEXTS, "label": repeat("x", "y"), "seen": repeat(0, 1), "old": repeat(1, 0)}
    assert read(tmp_path, columns, 2, label_columns=["old", "seen"]).label_names == ("old", "seen")


def test_numbers_are_refused_by_a_model_of_classes(tmp_path):
    with pytest.raises(DataError, match=r"numbers such as 0\.5; the model has 2 outputs") as refused:
        read(tmp_path, {"text": TEXTS, "label": repeat(0.5, 3.8, 1.1)}, 2)
    assert "one output" in str(refused.value)


def test_labels_need_an_output_each(tmp_path):
    with pytest.raises(DataError, match=r"have 2 labels \(bad, rude\); the model has one output"):
        _ = read(tmp_path, {"text": TEXTS, "bad": repeat(1, 0), "rude": repeat(0, 1, 1)}, 1, SEVERAL).label_names
    with pytest.raises(DataError, match=r"are no numbers, such as 'a'; the model has one output"):
        read(tmp_path, {"text": TEXTS, "label": repeat("a", "b")}, 1)
    with pytest.raises(DataError, match=r"the number \(column label\) is '1,000'"):
        _ = read(tmp_path, {"text": TEXTS * 2, "label": ["2.5"] * 119 + ["1,000"]}, 1).assignment


def test_a_split_whose_labels_are_secret_is_not_used(tmp_path):
    for name, flags in (("train", repeat(1, 0)), ("test", [-1] * 60)):
        write(
            tmp_path, {"text": [f"{name} {text}" for text in TEXTS], "bad": flags, "rude": flags[::-1]}, f"{name}.jsonl"
        )
    corpus = read_corpus(DataOptions(source=str(tmp_path)), CLASS, 2)
    assert corpus.source.splits == ("train",)


def test_a_cell_that_is_no_number_is_named(tmp_path):
    columns = {"text": TEXTS * 2, "label": [*(repeat(0.5, 3.8) * 2)[:-1], "many"]}
    with pytest.raises(DataError, match=r"line 120: the number \(column label\) is 'many'"):
        _ = read(tmp_path, columns, 1, NUMBER).assignment


def test_unknown_labels_are_no_targets(tmp_path):
    columns = {"text": TEXTS, "toxic": repeat(1, -1, 0), "rude": repeat(0, 0, 1)}
    splits, _ = prepare(tmp_path, columns, 2)
    labels = np.asarray(splits.train.labels)
    assert labels.shape[1] == 2
    assert set(labels.ravel().tolist()) == {1, 0, -100}
    assert splits.train.target_count == int((labels != -100).sum()) < labels.size


def prepare(folder, columns, num_labels):
    options = DataOptions(source=str(write(folder, columns)), validation_share=0.2)
    contract = contract_for(CLASS, 400, output_size=num_labels, num_labels=num_labels, max_length=64)
    corpus = read_corpus(options, CLASS, num_labels)
    tokenizer = fit_tokenizer(corpus, contract, options)
    splits = prepare_splits(corpus, tokenizer, contract, options, folder / "tokens")
    return splits, profile_splits(splits, tokenizer)


def test_numbers_reach_the_batches_and_the_profile(tmp_path):
    numbers = [float(number) / 7 - 3 for number in range(60)]
    splits, profile = prepare(tmp_path, {"text": TEXTS, "label": numbers}, 1)
    batch = Batches(splits.train, splits, batch_size=100).batch(0)
    train = [number for number in numbers if number in batch["labels"].tolist()]
    assert len(train) == len(splits.train) == len(batch["labels"])
    assert splits.target_scale == pytest.approx((np.mean(train), np.std(train)))
    assert profile["numbers"]["mean"] == pytest.approx(np.mean(train))
    held_out = np.asarray(splits.validation.labels)
    assert splits.baselines["mean_rmse"] == pytest.approx(np.sqrt(np.mean((held_out - np.mean(train)) ** 2)))
    assert splits.baselines["median_mae"] == pytest.approx(np.mean(np.abs(held_out - np.median(train))))


def test_several_labels_reach_the_batches_and_the_profile(tmp_path):
    columns = {"text": TEXTS, "tags": repeat(["b", "a"], ["c"], [])}
    splits, profile = prepare(tmp_path, columns, 4)
    assert splits.label_names == ("a", "b", "c")
    batch = Batches(splits.train, splits, batch_size=100).batch(0)
    assert {tuple(row) for row in batch["labels"].tolist()} == {(1, 1, 0), (0, 0, 1), (0, 0, 0)}
    assert profile["labels"]["train"]["a"] == int(batch["labels"][:, 0].sum())
    assert {example["expected"] for example in profile["examples"]} <= {"a, b", "c", ""}
    share = (batch["labels"].sum(0) + 1) / (len(batch["labels"]) + 2)
    held_out = np.asarray(splits.validation.labels)
    losses = -np.log(np.where(held_out == 1, share, 1 - share))
    assert splits.baselines["prior_loss"] == pytest.approx(losses.mean())


def test_texts_of_token_ids_have_numbers_and_labels_too(tmp_path):
    ids = [[number, 7, 8] for number in range(60)]
    corpus = read(tmp_path, {"input_ids": ids, "label": repeat(0.5, 3.8)}, 1, vocab_size=99)
    assert (corpus.task, next(iter(corpus.documents("train"))).number) == (NUMBER, 0.5)
    flags = {"input_ids": ids, "bad": repeat(1, 0, 0), "rude": repeat(0, 1)}
    assert read(tmp_path, flags, 2, vocab_size=99).label_names == ("bad", "rude")


@pytest.mark.parametrize("outputs", [5, 6])
def test_a_rating_beside_flags_that_are_not_as_many_as_the_outputs_is_the_class(tmp_path, outputs):
    columns = {"review": TEXTS, "star_rating": repeat(1, 2, 3, 4, 5), "vine": repeat(0, 1, 1), "verified": repeat(1, 0)}
    corpus = read(tmp_path, columns, outputs)
    assert (corpus.task, corpus.columns.label) == (CLASS, "star_rating")


def test_fewer_flags_than_outputs_are_labels_if_nothing_else_is_one(tmp_path):
    columns = {"text": TEXTS, "bad": repeat(1, 0, 0), "rude": repeat(0, 1), "channel": repeat("web", "app", "shop")}
    assert read(tmp_path, columns, 6).columns.flags == ("bad", "rude")


def test_columns_without_a_name_that_hold_0_and_1_are_no_labels_unless_each_output_has_one(tmp_path):
    columns = {"column_1": TEXTS, "column_2": repeat("a", "b", "c"), "column_3": repeat(0, 1), "column_4": repeat(1, 0)}
    assert read(tmp_path, columns, 2).columns.flags == ("column_3", "column_4")
    with pytest.raises(DataError, match="No column"):
        read(tmp_path, columns, 3)


CODES = ["1E4", "10E3"], ["12345678901234567890", "12345678901234567891"], ["9e0", "9e1"]


@pytest.mark.parametrize("codes", CODES, ids=str)
def test_codes_that_are_one_number_to_a_float_stay_two_classes(tmp_path, codes):
    corpus = read(tmp_path, {"text": TEXTS, "label": repeat(*codes)}, 2, name="a.csv")
    assert corpus.label_names == tuple(sorted(codes))


SETS = {
    "sets of Python": (repeat("{'b', 'a'}", "{'a'}", "{'b'}"), ["a", "b"]),
    "choices of Label Studio": (repeat('{"choices": ["a", "b"]}', "a", "b"), ["a", "b"]),
}


@pytest.mark.parametrize("kind", SETS)
def test_several_labels_in_a_cell_are_never_one_class(tmp_path, kind):
    cells, names = SETS[kind]
    corpus = read(tmp_path, {"text": TEXTS, "label": cells}, 3, name="a.csv")
    assert (corpus.task, corpus.label_names) == (SEVERAL, tuple(names))
    assert [len(document.present) for document in list(corpus.source.documents("train"))[:3]] == [2, 1, 1]


def test_a_record_is_no_class(tmp_path):
    corpus = read(tmp_path, {"text": TEXTS, "label": repeat('{"a": 1}', '{"a": 2}')}, 3, name="a.csv")
    with pytest.raises(DataError, match=r"the label \(column label\) is a record"):
        list(corpus.source.documents("train"))


def test_whole_numbers_in_a_cell_are_labels_or_a_warning(tmp_path):
    columns = {"text": TEXTS, "label": repeat("27", "0,27", "3", "3,5")}
    several = read(tmp_path, columns, 28, SEVERAL, name="a.csv")
    assert next(document for document in several.source.documents("train") if len(document.present) > 1)
    one = read(tmp_path, columns, 40, name="a.csv")
    assert "cells such as 0,27, each of which is read as one class" in " ".join(one.columns.warnings)
    halves = read(tmp_path, {"text": TEXTS, "label": repeat("3,5", "4", "4,5")}, 5, name="a.csv")
    assert "one class" not in " ".join(halves.columns.warnings)


MARKED = {
    "percents": (["12%", "0%"], "'12%'", "such as 12."),
    "prices": (["$1,203.50", "$2"], "'$1,203.50'", "such as 1203.50."),
    "euros": (["0,50 \u20ac", "12 \u20ac"], "'0,50 ", "such as 0.50."),
    "commas": (["0,100", "0,250"], "'0,100'", "such as 0.100."),
    "of five": (["4/5", "5/5"], "'4/5'", "such as 4."),
    "thousands": (["1'200", "3'000"], '"1\'200"', "such as 1200."),
    "debts": (["(1 200)", "30"], "'(1 200)'", "such as -1200."),
}


@pytest.mark.parametrize("kind", MARKED)
def test_numbers_with_signs_and_marks_are_named(tmp_path, kind):
    cells, shown, bare = MARKED[kind]
    with pytest.raises(DataError, match=r"Column price of .* holds more than numbers") as caught:
        read(tmp_path, {"text": TEXTS, "price": repeat(*cells, cells[0])}, 1, NUMBER)
    assert shown in caught.value.problem
    assert caught.value.expected.endswith(bare)


def test_words_are_no_numbers_with_signs(tmp_path):
    with pytest.raises(DataError, match="has no column of numbers"):
        read(tmp_path, {"text": TEXTS, "when": repeat("May 5", "2024-01-05")}, 1, NUMBER)
    with pytest.raises(DataError, match="has no column of numbers"):
        read(tmp_path, {"text": TEXTS, "lat": repeat(0.5, 3.5), "lon": repeat(1.5, 7.5)}, 1, NUMBER)


def test_a_column_of_0_and_1_is_a_label_whatever_its_name(tmp_path):
    flags = {
        name: repeat(*values) for name, values in {"NR-AhR": (1, 0, ""), "article": (0, 1), "key": (0, 1, 1)}.items()
    }
    corpus = read(tmp_path, {"id": range(60), "text": TEXTS} | flags, 3, SEVERAL, name="a.csv")
    assert corpus.label_names == tuple(flags)


JOINED = {
    "angle brackets": ("<python><pandas>", "<java>", "<pandas><java>"),
    "blanks": ("cs.LG stat.ML", "cs.LG", "stat.ML"),
    "plus": ("a+b", "b", "a"),
}


@pytest.mark.parametrize("kind", JOINED)
def test_names_that_are_joined_in_other_ways_are_labels_of_a_task_that_is_set(tmp_path, kind):
    corpus = read(tmp_path, {"text": TEXTS, "tags": repeat(*JOINED[kind])}, 3, SEVERAL, name="a.csv")
    assert len(corpus.label_names) == (3 if kind == "angle brackets" else 2)
    assert len(next(iter(corpus.source.documents("train"))).present) == 2


def test_names_with_blanks_stay_whole(tmp_path):
    corpus = read(tmp_path, {"text": TEXTS, "tags": repeat("New York", "New Jersey", "Utah")}, 3, SEVERAL, name="a.csv")
    assert corpus.label_names == ("New Jersey", "New York", "Utah")
