"""Columns are chosen from the whole table, however it is sorted."""

from __future__ import annotations

import csv
import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.columns.rows.row_sample import sample_rows
from transformer_foundry.core.data.sources.rows import StreamedRows
from transformer_foundry.core.data.sources.table_source import TableSource

FEW, MANY = 110, 130
TEXTS = sentences(FEW + MANY, 6)


def read(folder, rows, task="causal_lm", **options):
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_corpus(DataOptions(source=str(path), **options), task).source


def last_document(source):
    return list(source.documents("train"))[-1]


def prompts(**late):
    """Rows of which only the later ones have the columns in ``late``."""
    rows = [{"instruction": f"ASK {text}", "output": f"SAY {text}"} for text in TEXTS]
    return [*rows[:FEW], *({**row, **late} for row in rows[FEW:])]


@pytest.mark.parametrize("early", [{}, {"input": ""}, {"input": None}, {"input": " "}])
@pytest.mark.parametrize("task", ["causal_lm", "seq2seq_lm"])
def test_a_part_of_the_prompt_that_only_later_rows_have_is_read(tmp_path, early, task):
    rows = [early | row for row in prompts(input="GIVEN")]
    assert "GIVEN" in last_document(read(tmp_path, rows, task)).text


def test_a_part_inside_nested_records_that_only_later_rows_have_is_read(tmp_path):
    rows = [{"example": row} for row in prompts(input="GIVEN")]
    assert "GIVEN" in last_document(read(tmp_path, rows)).text


def test_a_part_that_only_a_later_file_has_is_read(tmp_path):
    for name, rows in (("a", prompts()[:FEW]), ("b", prompts(input="GIVEN")[FEW:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path)), "causal_lm").source
    assert "GIVEN" in last_document(source).text


def test_a_column_that_only_the_last_row_has_is_listed_as_not_read(tmp_path):
    rows = [*prompts() * 10, {"instruction": "a", "output": "b", "remark": "Seen once only, but it is seen ."}]
    assert "remark" in read(tmp_path, rows).columns.left_out


def test_of_a_table_sorted_by_class_no_other_column_becomes_the_class(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("comment", "outcome", "channel"))
        table.writerows(
            (text, "churn" if number < FEW else "stay", ("web", "app")[number % 2]) for number, text in enumerate(TEXTS)
        )
    with pytest.raises(DataError, match="No column"):
        read_corpus(DataOptions(source=str(tmp_path / "a.csv")), "sequence_classification")


@pytest.mark.parametrize("write", [list, json.dumps])
def test_a_weight_of_0_that_only_later_messages_have_is_obeyed(tmp_path, write):
    rows = []
    for number, text in enumerate(TEXTS):
        weight = {"weight": 0} if number >= FEW else {}
        said = {"role": "assistant", "content": f"SAY {text}"} | weight
        rows.append({"messages": write([{"role": "user", "content": f"ASK {text}"}, said])})
    document = last_document(read(tmp_path, rows))
    assert document.answers is not None
    assert all("SAY" not in document.text[start:end] for start, end in document.answers)


def test_pictures_that_only_later_messages_have_are_reported(tmp_path):
    picture = {"type": "image_url", "image_url": {"url": "a.png"}}
    rows = []
    for number, text in enumerate(TEXTS):
        asked = [{"type": "text", "text": text}, *([picture] if number >= FEW else ())]
        rows.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": f"SAY {text}"}]})
    assert any("image_url" in warning for warning in read(tmp_path, rows).columns.warnings)


def test_answers_that_are_called_wrong_only_in_later_rows_are_reported(tmp_path):
    rows = [row | {"label": number < FEW} for number, row in enumerate(prompts())]
    assert any("label" in warning for warning in read(tmp_path, rows).columns.warnings)


def test_one_odd_label_does_not_take_a_column_of_0_and_1_away(tmp_path):
    rows = [{"text": text, "toxic": number % 2, "insult": number % 3 // 2} for number, text in enumerate(TEXTS)]
    rows[-1]["insult"] = "x"
    source = read(tmp_path, rows, "sequence_classification")
    with pytest.raises(DataError, match="line 240"):
        list(source.documents("train"))


def test_spans_that_only_later_texts_have_are_read(tmp_path):
    rows = [
        {"text": f"Anna {text}", "label": [[0, 4, "PER"]] if number >= FEW else []} for number, text in enumerate(TEXTS)
    ]
    assert last_document(read(tmp_path, rows, "token_classification")).tags[0] == "B-PER"


@pytest.mark.parametrize(("labels", "splits"), [([None, *"ab"], 2), ([None] * 3, 1), ([-1] * FEW + [1], 2), ([-1], 1)])
def test_a_split_is_without_labels_only_if_no_row_has_one(tmp_path, labels, splits):
    for name, found in (("train", [0, 1]), ("validation", labels)):
        rows = ({"text": text, "label": found[number % len(found)]} for number, text in enumerate(TEXTS))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_corpus(DataOptions(source=str(tmp_path)), "sequence_classification").source.splits) == splits


def test_of_a_stream_it_is_said_that_only_the_first_rows_decide():
    import datasets

    stream = StreamedRows(datasets.IterableDataset.from_generator(lambda: iter(prompts(input="GIVEN"))), "s", None)
    source = TableSource(
        "s", {"train": stream}, "causal_lm", DataOptions(source="s"), digest=str, location="{}{}".format
    )
    assert "The columns are chosen from the first 100 rows of the stream, not from all." in source.notes


def test_the_sample_of_a_large_table_is_small_and_spread():
    rows = [{"text": f"text {number}", "kind": number // 2000} for number in range(20_000)]
    sample = sample_rows(rows, rows[:100])
    assert sample[:100] == rows[:100]
    assert 200 < len(sample) < 400
    assert all(sum(row["kind"] == kind for row in sample) >= 10 for kind in range(10))
    assert sample == sorted(sample, key=lambda row: int(row["text"].split()[1]))


def test_many_large_rows_with_something_new_are_cut():
    rows = ({f"column{number}": "long " * 400_000} for number in range(30))
    sample = sample_rows(rows, [])
    assert len(sample) == 30
    assert sum(len(cell) for row in sample for cell in row.values()) < 20_000_000
