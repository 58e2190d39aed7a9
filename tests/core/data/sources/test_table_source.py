from __future__ import annotations

import gzip
import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.sources.local_files import find_files
from transformer_foundry.core.data.sources.rows import LocalRows

TEXTS = sentences(40)


def read(path, task="sequence_classification", **options):
    return read_corpus(DataOptions(source=str(path), **options), task)


def all_documents(corpus):
    return [document for split in ("train", "validation", "test") for document in corpus.documents(split)]


def write_csv(path, header="text,label", rows=None, separator=","):
    rows = [f"{text}{separator}{number % 2}" for number, text in enumerate(TEXTS)] if rows is None else rows
    path.write_text("\n".join([header.replace(",", separator), *rows]) + "\n", encoding="utf-8")
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|")]
)
def test_separated_values_are_read(tmp_path, name, separator):
    corpus = read(write_csv(tmp_path / name, separator=separator))
    assert sorted(document.text for document in all_documents(corpus)) == sorted(TEXTS)
    assert corpus.label_names == ("0", "1")


def test_a_semicolon_in_a_header_of_one_column_separates_nothing(tmp_path):
    path = write_csv(tmp_path / "a.csv", header='"text; with a comma"', rows=TEXTS)
    assert {document.text for document in all_documents(read(path, "causal_lm"))} == set(TEXTS)


def test_commas_in_a_column_between_semicolons_are_text(tmp_path):
    path = write_csv(
        tmp_path / "a.csv", rows=[f"{text}, and more;{number % 2}" for number, text in enumerate(TEXTS)], separator=";"
    )
    assert {document.text for document in all_documents(read(path))} == {f"{text}, and more" for text in TEXTS}


def test_json_lines_are_read(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(review=TEXTS, sentiment=["neg", "pos"] * 20))
    corpus = read(path)
    assert corpus.label_names == ("neg", "pos")
    assert {document.label for document in all_documents(corpus)} == {0, 1}


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"data": rows}])
def test_a_json_file_may_hold_a_list_or_a_field_with_one(tmp_path, wrap):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(wrap(rows_of(text=TEXTS))))
    assert len(all_documents(read(path, "causal_lm"))) == 40


def test_parquet_is_read(tmp_path):
    import pandas as pd

    path = tmp_path / "a.parquet"
    pd.DataFrame(rows_of(text=TEXTS, label=[0, 1] * 20)).to_parquet(path)
    assert len(all_documents(read(path))) == 40


@pytest.mark.parametrize("separator", [",", ";"])
def test_compressed_files_are_read(tmp_path, separator):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(write_csv(tmp_path / "a.csv", separator=separator).read_bytes()))
    assert len(all_documents(read(path))) == 40


def test_text_loses_nothing_but_blank_lines(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(f"{text}\n  indented" for text in TEXTS), encoding="utf-8")
    joined = "\n".join(document.text for document in all_documents(read(path, "causal_lm")))
    assert sorted(filter(None, joined.split("\n"))) == sorted(filter(None, path.read_text().split("\n")))


def test_text_without_blank_lines_is_cut_at_lines(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("\n".join(sentences(400)), encoding="utf-8")
    documents = all_documents(read(path, "causal_lm"))
    assert len(documents) > 20
    assert sum(len(document.text.split("\n")) for document in documents) == 400


def test_a_text_on_one_line_is_cut_at_blanks_and_loses_nothing(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(" ".join(sentences(400)), encoding="utf-8")
    sections = [row["text"] for row in read(path, "causal_lm").source._tables["train"]]
    assert len(sections) > 20
    assert " ".join(sections) == path.read_text()


def test_a_folder_gives_its_splits_by_name(tmp_path):
    for name, part in (("train-0.jsonl", TEXTS[:10]), ("train-1.jsonl", TEXTS[10:20]), ("dev.jsonl", TEXTS[20:25])):
        write_jsonl(tmp_path / name, rows_of(text=part))
    corpus = read(tmp_path, "causal_lm", test_share=0.2)
    assert [document.text for document in corpus.documents("validation")] == TEXTS[20:25]
    assert corpus.assignment.counts["train"] + corpus.assignment.counts["test"] == 20


def test_a_folder_of_texts_is_read_in_order_of_names(tmp_path):
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text(TEXTS[number])
    corpus = read(tmp_path, "masked_lm")
    assert "".join(document.text for document in all_documents(corpus)).count("the") > 10


def test_hidden_files_are_no_data(tmp_path):
    write_csv(tmp_path / "a.csv")
    (tmp_path / ".cache").mkdir()
    write_jsonl(tmp_path / ".cache" / "b.jsonl", [{}])
    assert len(all_documents(read(tmp_path))) == 40


def test_pairs_are_found_by_their_names(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(id=range(40), Answer=TEXTS[::-1], Question=TEXTS))
    documents = all_documents(read(path, "seq2seq_lm"))
    assert {document.text: document.target for document in documents} == dict(zip(TEXTS, TEXTS[::-1], strict=True))


def test_pairs_in_a_nested_column_are_found(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"translation": {"en": text, "de": text[::-1]}} for text in TEXTS])
    documents = all_documents(read(path, "seq2seq_lm"))
    assert all(document.target == document.text[::-1] for document in documents)


def test_columns_can_be_named(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(text=TEXTS, other=TEXTS[::-1], label=[0] * 40, mood=[0, 1] * 20))
    corpus = read(path, text_column="other", label_column="mood")
    assert {document.text: document.label for document in all_documents(corpus)} == dict(
        zip(TEXTS[::-1], [0, 1] * 20, strict=True)
    )


def test_the_clearly_longest_column_is_the_text(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(author=["Ann"] * 40, plot=TEXTS))
    assert {document.text for document in all_documents(read(path, "causal_lm"))} == set(TEXTS)


def test_columns_that_could_each_be_the_text_are_refused_by_name(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(left=TEXTS, right=TEXTS))
    with pytest.raises(DataError, match=r"columns left, right, each of which could be the text"):
        read(path, "causal_lm")


def test_a_missing_column_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(DataError, match=r"has no column txt \(data.text_column\). Did you mean 'text'"):
        read(write_csv(tmp_path / "a.csv"), text_column="txt")


def test_a_table_without_a_label_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(text=TEXTS, year=range(40), page=range(40)))
    with pytest.raises(DataError, match=r"No column of .* has the name of a label"):
        read(path)


def test_a_missing_label_is_refused_with_its_line(tmp_path):
    rows = [f"{text},{number % 2 if number != 6 else ''}" for number, text in enumerate(TEXTS)]
    path = write_csv(tmp_path / "a.csv", rows=rows)
    with pytest.raises(DataError, match=r"a.csv, line 8: the label \(column label\) is missing"):
        _ = read(path).assignment


def test_a_missing_label_in_the_second_file_is_placed_there(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", rows_of(text=TEXTS, label=[0, 1] * 20))
    write_jsonl(tmp_path / "b.jsonl", rows_of(text=["x", "y"], label=[0, None]))
    with pytest.raises(DataError, match=r"b.jsonl, line 2: the label"):
        _ = read(tmp_path).assignment


def test_a_fractional_label_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of(text=TEXTS, label=[0.5] * 40))
    with pytest.raises(DataError, match=r"line 1: the label .* is 0.5"):
        _ = read(path).assignment


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"", r"a.csv is empty"),
        ("a.csv", b"\n <!DOCTYPE html>\n<html>404</html>", r"a.csv is a web page"),
        ("a.csv", b"text,label\na,0\nb,1,2\nc,0\n", r"a.csv, line 3: Expected 2 fields, saw 3: 'b,1,2'"),
        ("a.csv", b"text,label\na,0,x\nb,1,y\n", r"a.csv, line 2: Expected 2 fields, saw 3"),
        (
            "a.csv",
            "text,label\na,0\nnaïve,1\n".encode("latin-1"),
            r"a.csv, line 3: byte 0xef at position 3 is not UTF-8",
        ),
        ("a.csv", b'text,label\n"a, b",0\nb,"1\nc,0\n', r"a.csv, line 3: a quote is opened that is never closed"),
        ("a.csv", b"text,label\n", r"a.csv has no rows"),
        ("a.jsonl", b'{"text": "a"}\n"b"\n', r"a.jsonl, line 2: not an object"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d b"}\n', r"a.jsonl, line 2: an incomplete surrogate pair"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b\n', r"a.jsonl, line 3: not JSON"),
        ("a.json", b'[{"text": "a"},\n {"text": }]', r"a.json, line 2: not JSON"),
        ("a.txt", bytes(range(256)), r"a.txt is binary"),
        ("a.txt", "a\nnaïve".encode("latin-1"), r"a.txt, line 2: byte 0xef"),
        ("a.parquet", b"PAR1" + b"x" * 50, r"a.parquet \(54 bytes\) is truncated"),
        ("a.csv.gz", b"no gzip at all", r"a.csv.gz is not compressed, although its name ends in .gz"),
        ("a.csv.gz", b"\x1f\x8b damaged", r"a.csv.gz cannot be decompressed \(gzip\)"),
        ("a.docx", b"PK\x03\x04", r"a.docx begins like a zip file or spreadsheet but cannot be read"),
    ],
)
def test_damaged_files_are_refused_with_file_and_place(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        _ = read(tmp_path / name, "causal_lm").assignment


def test_the_damaged_one_of_many_files_is_named(tmp_path):
    for name, rows in (("a", None), ("b", ["x,0", "y,1,2"]), ("c", None)):
        write_csv(tmp_path / f"{name}.csv", rows=rows)
    with pytest.raises(DataError, match=r"b.csv, line 3: Expected 2 fields"):
        _ = read(tmp_path).assignment


def test_names_with_brackets_are_no_patterns(tmp_path):
    assert len(all_documents(read(write_csv(tmp_path / "data [1] (a*).csv")))) == 40


def test_every_refusal_says_what_was_expected_and_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "missing.csv")
    assert "no such file or folder" in caught.value.problem
    assert caught.value.expected
    assert "data.source" in caught.value.remedy


def test_a_folder_of_several_formats_is_refused(tmp_path):
    write_csv(tmp_path / "a.csv")
    write_jsonl(tmp_path / "b.jsonl", [{"text": "a"}])
    with pytest.raises(DataError, match="files for csv and json"):
        read(tmp_path)


def test_plain_text_has_no_labels(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="plain text, which has no labels"):
        read(tmp_path / "a.txt")


def test_without_the_hub_the_way_out_is_named():
    with pytest.raises(DataError) as caught:
        read("nobody/nothing", "causal_lm")
    assert "nobody/nothing is not in the cache" in caught.value.problem
    assert "'built-in:countries'" in caught.value.remedy


def test_changed_content_changes_the_digest(tmp_path):
    path = write_csv(tmp_path / "a.csv")
    before = read(path).digest()
    assert read(path).digest() == before
    path.write_text(path.read_text().replace("dog", "cat"))
    assert read(path).digest() != before


def test_one_of_the_splits_of_a_folder_can_be_chosen(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows_of(text=TEXTS[:20]))
    write_jsonl(tmp_path / "test.jsonl", rows_of(text=TEXTS[20:]))
    assert {document.text for document in all_documents(read(tmp_path, "causal_lm", split="test"))} == set(TEXTS[20:])
    with pytest.raises(DataError, match=r"data.split is other, but .* has: train, test"):
        read(tmp_path, "causal_lm", split="other")


def test_a_test_split_with_secret_labels_is_not_used(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows_of(text=TEXTS[:30], label=[0, 1] * 15))
    write_jsonl(tmp_path / "test.jsonl", rows_of(text=TEXTS[30:], label=[-1] * 10))
    assert {document.text for document in all_documents(read(tmp_path))} == set(TEXTS[:30])


TITLES = {
    "one line": "Reviews of May",
    "several lines": "Reviews of May\nSource: the shop\n",
    "filled up by a spreadsheet": "Reviews of May,,\n,,",
    "with a separator": "Reviews of May, of the shop",
}


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
def test_lines_before_the_header_are_not_read(tmp_path, title):
    rows = [f"{number},{text},{number % 2}" for number, text in enumerate(TEXTS)]
    corpus = read(write_csv(tmp_path / "a.csv", header=f"{title}\nid,text,label", rows=rows))
    assert sorted(document.text for document in all_documents(corpus)) == sorted(TEXTS)
    assert any("before the header of" in note for note in corpus.source.notes)


def test_a_first_row_of_data_is_no_title(tmp_path):
    rows = [f"{text},{'ham' if number % 2 else 'spam'}" for number, text in enumerate(TEXTS)]
    corpus = read(write_csv(tmp_path / "a.csv", header="first words,ham", rows=rows))
    assert len(all_documents(corpus)) == 41


def test_of_pictures_only_the_first_are_read_to_choose_columns(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet") and pytest.importorskip("pyarrow")
    pictures = [{"bytes": b"\x89PNG" + bytes([number % 256]), "path": None} for number in range(300)]
    table = pyarrow.table({"text": [f"text {n}" for n in range(300)], "picture": pictures})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    files = find_files(str(tmp_path / "a.parquet"), DataOptions()).splits["train"]
    rows = LocalRows(files, DataOptions())
    found = rows.sample(100)
    assert [set(row) for row in found[:100]] == [{"text", "picture"}] * 100
    assert {name for row in found[100:] for name in row} == {"text"}
    assert len([row["picture"] for row in rows]) == 300
