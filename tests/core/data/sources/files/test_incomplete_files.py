"""Files that would lose rows, or teach what is no data, without a word."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pyarrow
import pyarrow.parquet
import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus

TEXTS = sentences(20)


def test_a_database_whose_last_rows_are_in_its_log_is_refused(tmp_path):
    path = tmp_path / "rows.db"
    with contextlib.closing(sqlite3.connect(path)) as open_elsewhere:
        open_elsewhere.execute("pragma journal_mode=wal")
        open_elsewhere.execute("create table t(text)")
        open_elsewhere.executemany("insert into t values(?)", [(text,) for text in TEXTS])
        open_elsewhere.commit()
        with pytest.raises(DataError, match=r"its last changes are in rows\.db-wal, which is not read"):
            read_corpus(DataOptions(source=str(path)), "causal_lm")
    found = read_corpus(DataOptions(source=str(path)), "causal_lm").all_documents()
    assert {document.text for _, document in found} == set(TEXTS)


def test_columns_of_one_name_in_parquet_are_named(tmp_path):
    arrays = [pyarrow.array(TEXTS), pyarrow.array(TEXTS[::-1])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has several columns called text; it has text, text"):
        read_corpus(DataOptions(source=str(tmp_path / "a.parquet")), "causal_lm")


@pytest.mark.parametrize(("ids", "is_warned"), [([5, 6, 0, 0], True), ([5, 6, 0, 7], False)])
def test_ids_that_look_like_padding_are_a_warning(tmp_path, ids, is_warned):
    rows = [{"input_ids": [number + 10, *ids]} for number in range(20)]
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path / "ids.jsonl"), vocab_size=100), "causal_lm").source
    assert ["end in several ids 0, as padding does" in warning for warning in source.columns.warnings] == (
        [True] if is_warned else []
    )


def test_a_comment_inside_a_sequence_does_not_cut_it(tmp_path):
    content = "".join(f">s{place}\nACGT{'ACGT'[place % 4] * place}\n;checked\nAC*\n" for place in range(20))
    (tmp_path / "a.fasta").write_text(content)
    found = read_corpus(DataOptions(source=str(tmp_path / "a.fasta")), "causal_lm").all_documents()
    assert {one.text for _, one in found} == {f"ACGT{'ACGT'[place % 4] * place}AC*" for place in range(20)}


def test_the_word_hash_outside_of_spans_is_read_if_no_other_word_is(tmp_path):
    content = "".join(f"# O\nAnna{place} B-PER\n# O\nParis B-LOC\n\n" for place in range(20))
    (tmp_path / "a.conll").write_text(content)
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.conll")), "token_classification")
    assert {document.words for _, document in corpus.all_documents()} == {
        ("#", f"Anna{place}", "#", "Paris") for place in range(20)
    }
