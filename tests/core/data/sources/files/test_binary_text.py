"""Text that a database or a columnar file stores as bytes: decoded, or refused with its row."""

from __future__ import annotations

import contextlib
import sqlite3

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus

TEXTS = [f"{text} é" for text in sentences(30)]
LABELS = ["ab"[number % 2] for number in range(30)]


def as_bytes(values):
    return [value.encode() for value in values]


def write_sqlite(path, texts):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table rows (body text, label text)")
        connection.executemany("insert into rows values (?, ?)", zip(texts, LABELS, strict=True))
        connection.commit()


def write_nested(path, texts):
    documents = pyarrow.array([{"body": text} for text in texts])
    pyarrow.parquet.write_table(pyarrow.table({"doc": documents, "label": as_bytes(LABELS)}), path)


WRITERS = {
    "a.db": write_sqlite,
    "a.parquet": lambda path, texts: pyarrow.parquet.write_table(
        pyarrow.table({"body": texts, "label": as_bytes(LABELS)}), path
    ),
    "a.feather": lambda path, texts: pyarrow.feather.write_feather(
        pyarrow.table({"body": texts, "label": LABELS}), path
    ),
    "nested.parquet": write_nested,
}


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_of_text_are_text(tmp_path, name):
    WRITERS[name](tmp_path / name, as_bytes(TEXTS))
    corpus = read_corpus(DataOptions(source=str(tmp_path / name)), "sequence_classification")
    assert corpus.label_names == ("a", "b")
    assert [document.text for document in corpus.source.documents("train")] == TEXTS


def test_a_few_blobs_among_texts_are_text(tmp_path):
    mixed = [text.encode() if number % 7 == 3 else text for number, text in enumerate(TEXTS)]
    write_sqlite(tmp_path / "a.db", mixed)
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.db")), "sequence_classification")
    assert [document.text for document in corpus.source.documents("train")] == TEXTS


@pytest.mark.parametrize("cell", [TEXTS[0].encode("latin-1"), b"\x89PNG\r\n\x1a\n", b"a\0b"])
def test_other_bytes_in_a_column_that_is_read_are_refused(tmp_path, cell):
    write_sqlite(tmp_path / "a.db", [*TEXTS[:20], cell, *TEXTS[21:]])
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.db")), "sequence_classification")
    with pytest.raises(DataError, match="row 21: column body has bytes that are no text in UTF-8"):
        list(corpus.all_documents())


def test_pictures_beside_the_text_are_left_out(tmp_path):
    columns = {"text": TEXTS, "label": LABELS, "picture": [b"\x89PNG\x00"] * 30}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.parquet")), "sequence_classification")
    assert [document.text for document in corpus.source.documents("train")] == TEXTS
