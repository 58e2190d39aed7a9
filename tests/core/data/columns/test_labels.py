"""Columns of classifiers: the class, and the two sides of a pair."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus

TEXTS = sentences(40)


def read(folder, rows, **options):
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_corpus(DataOptions(source=str(path), **options), "sequence_classification")


def rows_of(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("Question1", "Question2"),
        ("text_a", "text_b"),
        ("sentence_A", "sentence_B"),
        ("claim 1", "claim 2"),
        ("leftText", "rightText"),
        ("premise", "hypothesis"),
    ],
)
def test_both_sides_of_a_pair_are_read(tmp_path, first, second):
    rows = rows_of(**{"pair_id": range(40), first: TEXTS, second: TEXTS[::-1], "gold_label": ["yes", "no"] * 20})
    columns = read(tmp_path, rows).columns
    assert (columns.text, columns.pair, columns.label, columns.warnings) == (first, second, "gold_label", ())


@pytest.mark.parametrize("name", ["label", "Sentiment", "gold_label", "review_class", "news category"])
@pytest.mark.parametrize("values", [[False, True], ["pos", "neg"], [0, 4], [1.0, 2.0], ["0", "4"]])
def test_the_classes_are_those_that_occur(tmp_path, name, values):
    corpus = read(tmp_path, rows_of(id=range(40), body=TEXTS, **{name: values * 20}))
    assert len(corpus.label_names) == 2
    assert {document.label for document in corpus.documents("train")} == {0, 1}


@pytest.mark.parametrize("name", ["stars", "Rating", "score", "polarity", "grade", "star_rating"])
def test_ratings_of_few_values_are_classes(tmp_path, name):
    columns = read(tmp_path, rows_of(id=range(40), body=TEXTS, **{name: [1, 2] * 20})).columns
    assert (columns.text, columns.label) == ("body", name)


def test_scores_of_many_values_are_no_classes(tmp_path):
    with pytest.raises(DataError, match="name of a label"):
        read(tmp_path, rows_of(id=range(40), body=TEXTS, score=[number / 40 for number in range(40)]))


def test_a_text_beside_the_text_of_a_classifier_is_a_warning(tmp_path):
    columns = read(tmp_path, rows_of(text=TEXTS, reply=TEXTS[::-1], label=[0, 1] * 20)).columns
    assert columns.warnings == ("Column reply holds text that is not read; data.pair_column reads a second text.",)


def test_two_columns_that_could_be_the_label_are_asked_about(tmp_path):
    rows = rows_of(text=TEXTS, first_label=[0, 1] * 20, second_label=[1, 0] * 20)
    with pytest.raises(DataError, match="its columns: text, first_label, second_label"):
        read(tmp_path, rows)


@pytest.mark.parametrize("name", ["is_duplicate", "isToxic", "has_error", "verdict", "Duplicate?"])
def test_a_label_with_another_name_is_found_by_its_few_values(tmp_path, name):
    sides = {"qid1": range(40), "qid2": range(40, 80), "question1": TEXTS, "question2": TEXTS[::-1]}
    source = read(tmp_path, rows_of(id=range(40), **sides, **{name: [0, 1] * 20})).source
    columns = source.columns
    assert (columns.text, columns.pair, columns.label, columns.warnings) == ("question1", "question2", name, ())
    is_said = any(f"Column {name} is the class" in note for note in source.notes)
    assert is_said == (name in ("verdict", "Duplicate?"))


def test_a_label_that_is_set_is_not_called_a_guess(tmp_path):
    rows = rows_of(id=range(40), body=TEXTS, verdict=[0, 1] * 20)
    notes = [read(tmp_path, rows, **given).source.notes for given in ({}, {"label_column": "verdict"})]
    assert [any("is the class" in note for note in found) for found in notes] == [True, False]


@pytest.mark.parametrize("others", [{"year": [2012, 2013] * 20}, {"kind": ["a", "b"] * 20, "mood": ["c", "d"] * 20}])
def test_a_label_is_not_guessed_from_metadata_or_among_several_columns(tmp_path, others):
    with pytest.raises(DataError, match="name of a label"):
        read(tmp_path, rows_of(id=range(40), body=TEXTS, **others))


def test_without_a_header_the_class_and_both_texts_are_read(tmp_path):
    path = tmp_path / "train.csv"
    rows = zip([1, 2, 3, 4] * 10, TEXTS, TEXTS[::-1], strict=True)
    path.write_text("".join(f'"{label}","{one[:40]}","{other}"\n' for label, one, other in rows))
    columns = read_corpus(DataOptions(source=str(path)), "sequence_classification").columns
    assert (columns.label, columns.text, columns.pair) == ("column_1", "column_2", "column_3")


@pytest.mark.parametrize("origin", [["none"], ["forum", "news"]])
def test_origins_of_both_sides_are_no_pair_of_texts(tmp_path, origin):
    about = {"genre": ["main"] * 40, "filename": ["MSRvid"] * 40, "year": ["2012"] * 40}
    about |= {"source1": (origin * 40)[:40], "source2": (origin * 40)[:40]}
    rows = rows_of(**about, sentence1=TEXTS, sentence2=TEXTS[::-1], score=[number / 8 for number in range(40)])
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = read_corpus(DataOptions(source=str(path)), "regression", 1).columns
    assert (columns.text, columns.pair, columns.label) == ("sentence1", "sentence2", "score")


def test_a_real_choice_between_pairs_names_the_options(tmp_path):
    sides = {f"{name}{side}": TEXTS for name in ("claim", "claim_de_") for side in (1, 2)}
    with pytest.raises(DataError, match="each of which could be the text") as caught:
        read(tmp_path, rows_of(**sides, label=[0, 1] * 20))
    assert "data.text_column" in caught.value.remedy
    assert "data.pair_column" in caught.value.remedy


@pytest.mark.parametrize("values", [["", " "], [""], [None]])
def test_a_column_of_text_that_is_empty_is_said_to_be(tmp_path, values):
    with pytest.raises(DataError, match=r"Column text of .* is empty in all of the 40 rows"):
        read(tmp_path, rows_of(text=(values * 40)[:40], label=[0, 1] * 20))
