"""Rows that annotators rejected or left aside are not learned."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.sources.rows import StreamedRows
from transformer_foundry.core.data.sources.table_source import TableSource

TEXTS = sentences(40)
ANSWERS = ("accept", "reject", "accept", "ignore")


def read(folder, task, answers=ANSWERS, **options):
    rows = []
    for number, text in enumerate(TEXTS):
        answer = answers[number % len(answers)]
        rows.append({"text": f"{answer} {text}", "label": ("bad", "good")[number // 2 % 2], "answer": answer})
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_corpus(DataOptions(source=str(path), **options), task).source


def words(source):
    return {document.text.split()[0] for document in source.documents("train")}


@pytest.mark.parametrize("task", ["sequence_classification", "causal_lm"])
def test_rows_that_are_not_accepted_are_left_out_and_counted(tmp_path, task):
    source = read(tmp_path, task)
    assert words(source) == {"accept"}
    assert "20 rows that annotators did not accept (column answer: ignore 10, reject 10)" in source.columns.warnings[0]
    assert source.location("train", 1).endswith("line 3")
    assert "answer" not in source.columns.names()


def test_spans_of_rejected_texts_are_not_learned_and_unread_columns_are_listed(tmp_path):
    rows = [
        {"text": f"Anna {text}", "spans": [{"start": 0, "end": 900 if number % 4 else 4, "label": "PER"}], "meta": "x"}
        | {"answer": "reject" if number % 4 else "accept"}
        for number, text in enumerate(TEXTS)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path / "a.jsonl")), "token_classification").source
    assert [document.tags[0] for document in source.documents("train")] == ["B-PER"] * 10
    assert source.columns.left_out == ("meta",)


def test_without_a_refused_row_nothing_is_said(tmp_path):
    source = read(tmp_path, "sequence_classification", ["accept"])
    assert (len(list(source.documents("train"))), source.columns.warnings) == (40, ())


def test_an_answer_that_is_named_or_stands_alone_is_the_class(tmp_path):
    assert len(words(read(tmp_path, "sequence_classification", label_column="answer"))) == 3
    (tmp_path / "b.csv").write_text("text,answer\n" + "".join(f"{text},{ANSWERS[len(text) % 2]}\n" for text in TEXTS))
    source = read_corpus(DataOptions(source=str(tmp_path / "b.csv")), "sequence_classification").source
    assert source.columns.label == "answer"


def test_of_a_single_label_the_answers_are_the_classes(tmp_path):
    rows = [{"text": text, "label": "SPAM", "answer": ANSWERS[number % 2]} for number, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"data\.label_column=answer"):
        read_corpus(DataOptions(source=str(tmp_path / "a.jsonl")), "sequence_classification")


@pytest.mark.parametrize(("mark", "count"), [("claim", 40), ("external_id", 20)])
def test_a_status_is_a_decision_only_beside_marks_of_argilla(tmp_path, mark, count):
    states = ("submitted", "pending")
    rows = [
        {"text": text, "label": "ab"[n // 2 % 2], "status": states[n % 2], mark: str(n)} for n, text in enumerate(TEXTS)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path / "a.jsonl")), "sequence_classification").source
    assert len(list(source.documents("train"))) == count


def test_of_a_stream_only_the_first_rows_are_read_for_the_answers():
    datasets = pytest.importorskip("datasets")
    read = []

    def rows():
        for number in range(2000):
            read.append(number)
            yield {
                "text": TEXTS[number % 40],
                "label": "ab"[number // 4 % 2],
                "answer": ANSWERS[number % 4],
                "number": number,
            }

    table = StreamedRows(datasets.IterableDataset.from_generator(rows), "a", None)
    given = {"digest": str, "location": lambda split, number: f"{split} {number}"}
    source = TableSource("a", {"train": table}, "sequence_classification", DataOptions(), **given)
    assert max(read) < 200
    assert "Rows that annotators did not accept (column answer: ignore, reject)" in source.columns.warnings[0]
    assert len(list(source.documents("train"))) == 1000
    assert set(next(iter(table))) == {"text", "label", "answer"}


def test_responses_of_argilla_are_the_classes_and_its_status_is_none(tmp_path):
    rows = [
        {
            "text": text,
            "status": ("completed", "discarded")[number % 2],
            "topic.responses": [("bad", "good")[number % 3 % 2]],
        }
        for number, text in enumerate(TEXTS)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path / "a.jsonl")), "sequence_classification", 2).source
    assert source.columns.label == "topic.responses"
    assert {document.label for document in source.documents("train")} == {"bad", "good"}
    assert "20 rows that annotators did not accept (column status: discarded 20)" in source.columns.warnings[0]


@pytest.mark.parametrize("task", ["sequence_classification", "token_classification"])
def test_the_native_json_of_label_studio_is_named(tmp_path, task):
    rows = [{"data": {"text": text}, "annotations": [{"id": 1, "result": [{"type": "choices"}]}]} for text in TEXTS]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="JSON of Label Studio") as caught:
        read_corpus(DataOptions(source=str(tmp_path / "a.json")), task, 2)
    assert "JSON-MIN" in caught.value.remedy
