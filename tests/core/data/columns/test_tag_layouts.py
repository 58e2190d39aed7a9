"""Tagged words in the layouts that people have: judged by the words and tags of the sentences."""

from __future__ import annotations

import json

import pytest

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus

WORDS, TAGS = ("Ada", "met", "Bob", "Lee", "."), ("B-PER", "O", "B-PER", "I-PER", "O")
TEXT = "Ada met Bob Lee."


def read(path, content, **options):
    path.write_text(content, encoding="utf-8")
    return read_corpus(DataOptions(source=str(path), **options), "token_classification")


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def sentence(number, *, repeats):
    return [
        f"{'Sentence: ' + str(number) if place == 0 or repeats else ''},{word},{tag}\n"
        for place, (word, tag) in enumerate(zip(WORDS, TAGS, strict=True))
    ]


def test_sentences_that_are_counted_anew_in_each_document_stay_apart(tmp_path):
    rows = [f"d{number},0,{word},{tag}\n" for number in range(30) for word, tag in zip(WORDS, TAGS, strict=True)]
    corpus = read(tmp_path / "a.csv", "doc_id,sent_id,token,tag\n" + "".join(rows))
    documents = list(corpus.source.documents("train"))
    assert len(documents) == 30
    assert all(document.words == WORDS for document in documents)


@pytest.mark.parametrize("repeats", [False, True])
def test_one_word_a_row_is_grouped_by_the_column_of_sentences(tmp_path, repeats):
    rows = [row for number in range(30) for row in sentence(number, repeats=repeats)]
    corpus = read(tmp_path / "a.csv", "Sentence #,Word,Tag\n" + "".join(rows))
    documents = list(corpus.source.documents("train"))
    assert len(documents) == 30
    assert all((document.words, document.tags) == (WORDS, TAGS) for document in documents)
    assert corpus.source.location("train", 2).endswith(" 12")


def test_one_word_a_row_without_sentences_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"one word a row \(column Word\), but no column that says which sentence"):
        read(tmp_path / "a.csv", "Word,Tag\n" + "".join(f"{word},O\n" for word in WORDS * 20))


SPANS = {
    "spacy": [TEXT, {"entities": [[0, 3, "PER"], [8, 15, "PER"]]}],
    "lists": {"text": TEXT, "label": [[0, 3, "PER"], [8, 15, "PER"]]},
    "objects": {
        "data": TEXT,
        "entities": [{"start": 0, "end": 3, "label": "PER"}, {"start": 8, "end": 15, "label": "PER"}],
    },
    "objects with lists of labels": {
        "text": TEXT,
        "label": [{"start": 0, "end": 3, "labels": ["PER"]}, {"start": 8, "end": 15, "labels": ["PER"]}],
    },
    "a span in a span": {"text": TEXT, "spans": [[0, 3, "PER"], [8, 11, "FIRST"], [8, 15, "PER"]]},
}


@pytest.mark.parametrize("layout", SPANS)
def test_spans_become_a_tag_for_each_word(tmp_path, layout):
    rows = [SPANS[layout]] * 20
    content = json.dumps(rows) if isinstance(rows[0], list) else lines(rows)
    corpus = read(tmp_path / ("a.json" if isinstance(rows[0], list) else "a.jsonl"), content)
    document = next(corpus.source.documents("train"))
    assert (document.words, document.tags) == (WORDS, TAGS)


def test_a_span_outside_its_text_is_refused_with_its_row(tmp_path):
    rows = [{"text": TEXT, "label": [[0, 3, "PER"]]}] * 20 + [{"text": "Ada and Bob", "label": [[8, 12, "PER"]]}]
    with pytest.raises(DataError, match=r"line 21: the span 8 to 12 \(PER\) is not inside its text \(11 long\)"):
        read(tmp_path / "a.jsonl", lines(rows))


def test_lists_written_as_text_are_lists(tmp_path):
    row = f'"{list(WORDS)}","{list(TAGS)}"\n'
    corpus = read(tmp_path / "a.csv", "tokens,ner_tags\n" + row * 20)
    document = next(corpus.source.documents("train"))
    assert (document.words, document.tags) == (WORDS, TAGS)


@pytest.mark.parametrize("tags", ["[0 1 0 1 1]", "[0, 1, 0, 1, 1]"])
def test_numbers_of_tags_as_numpy_prints_them_are_a_list(tmp_path, tags):
    corpus = read(tmp_path / "a.csv", "tokens,ner_tags\n" + f'"{list(WORDS)}","{tags}"\n' * 20)
    assert next(corpus.source.documents("train")).tags == (0, 1, 0, 1, 1)


def test_a_list_that_cannot_be_read_is_refused_and_never_split_at_blanks(tmp_path):
    corpus = read(tmp_path / "a.csv", "tokens,ner_tags\n" + '"[Ada, met]","[B O]"\n' * 20)
    with pytest.raises(DataError, match="holds a list that cannot be read"):
        _ = corpus.assignment


ACCENTS = "😀 Été: Ada met Bob Lee."
NAMES = ("Ada", "Bob Lee", "Charlotte", "Il")


def counted_by(count):
    """Rows with a span whose offsets are those of ``count``, which counts what is before a place."""
    rows = []
    for number in range(20):
        name = NAMES[number % 4]
        text = f"{'😀' * (number % 3 + 1)} Été {'à ' * (number % 5)}est {name} là-bas."
        at = text.index(name)
        rows.append({"text": text, "label": [[count(text, at), count(text, at + len(name)), "PER"]]})
    return rows


WAYS = {
    "UTF-16 units": lambda text, at: len(text[:at].encode("utf-16-le")) // 2,
    "bytes of UTF-8": lambda text, at: len(text[:at].encode()),
    "characters from 1": lambda text, at: at + 1,
}


@pytest.mark.parametrize("way", WAYS)
def test_offsets_that_are_counted_in_another_way_are_refused_with_it(tmp_path, way):
    with pytest.raises(DataError, match=f"spans count {way}[^:]*: .* counted this way 'Ada'"):
        read(tmp_path / "a.jsonl", lines(counted_by(WAYS[way])))


def test_offsets_in_characters_are_no_reason_for_a_warning(tmp_path):
    corpus = read(tmp_path / "a.jsonl", lines(counted_by(lambda _, at: at)))
    assert corpus.columns.warnings == ()


def test_a_span_that_is_not_its_own_text_is_refused(tmp_path):
    span = {"start": ACCENTS.index("Ada") + 1, "end": ACCENTS.index("Ada") + 4, "label": "PER", "text": "Ada"}
    rows = [{"text": TEXT, "entities": [{"start": 0, "end": 3, "label": "PER", "text": "ADA"}]}] * 20
    with pytest.raises(DataError, match=r"line 21: .* but its own text is 'Ada'; the offsets may count UTF-16 units"):
        read(tmp_path / "a.jsonl", lines([*rows, {"text": ACCENTS, "entities": [span]}]))


def test_spans_that_cut_words_are_a_warning(tmp_path):
    corpus = read(tmp_path / "a.jsonl", lines([{"text": TEXT, "label": [[2, 3, "PER"], [10, 13, "PER"]]}] * 20))
    (found,) = corpus.columns.warnings
    assert "40 of 40 labelled spans begin within a word (first in" in found


@pytest.mark.parametrize("spans", [[[0, 2, "PER"], [8, 14, "PER"]], [[0, 4, "PER"], [7, 15, "PER"]]])
def test_ends_that_are_the_last_character_or_a_blank_change_no_tag(tmp_path, spans):
    corpus = read(tmp_path / "a.jsonl", lines([{"text": TEXT, "label": spans}] * 20))
    assert corpus.columns.warnings == ()
    assert next(corpus.source.documents("train")).tags == TAGS


def test_of_two_ways_that_fit_both_conversions_are_named(tmp_path):
    with pytest.raises(DataError, match=r"Counted this way, 20 of 20 spans fit words; as they are, 0 do") as caught:
        read(tmp_path / "a.jsonl", lines([{"text": "I saw Ada.", "label": [[7, 10, "PER"]]}] * 20))
    assert caught.value.remedy == (
        "For characters from 1: Subtract 1 from each start and end."
        " For characters from 1 up to the last one: Subtract 1 from each start."
    )


def test_of_a_long_span_a_part_is_quoted(tmp_path):
    text = "word " * 4000
    row = {"text": text, "entities": [{"start": 0, "end": 19_999, "label": "X", "text": "other " * 4000}]}
    with pytest.raises(DataError, match="its own text is 'other other") as caught:
        read(tmp_path / "a.jsonl", lines([row] * 20))
    assert len(str(caught.value)) < 500
    assert caught.value.remedy == "Correct the offsets, or the text of the span."


def test_bytes_within_lists_are_refused_as_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet") and pytest.importorskip("pyarrow")
    cells = [[b"Ada", b"caf\xe9"]] * 20
    table = pyarrow.table({"tokens": pyarrow.array(cells, pyarrow.list_(pyarrow.binary())), "tags": [["X", "O"]] * 20})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column tokens has bytes that are no text"):
        list(read_corpus(DataOptions(source=str(tmp_path / "a.parquet")), "token_classification").all_documents())
