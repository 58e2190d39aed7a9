"""What messages about data name: the cause, and the columns that are there."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import contract_for, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, read_corpus

TEXTS = sentences(40)


def write_rows(path, **columns):
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def open_rows(tmp_path, task, num_labels=None, columns=None, **options):
    path = tmp_path / "a.jsonl"
    write_rows(path, **(columns or {}))
    return read_corpus(DataOptions(source=str(path), **options), task, num_labels)


def prepare(corpus):
    contract = contract_for(corpus.task)
    return prepare_splits(corpus, fit_tokenizer(corpus, contract, DataOptions()), contract, DataOptions())


def test_classes_that_look_alike_are_the_cause_of_too_many_classes(tmp_path):
    labels = ["Positive", "negative", "positive", "negative"] * 10
    corpus = open_rows(tmp_path, "sequence_classification", 2, {"text": TEXTS, "label": labels})
    with pytest.raises(
        DataError, match=r"3 classes \(Positive, negative, positive\) but the model has only 2"
    ) as caught:
        _ = corpus.label_names
    assert caught.value.remedy.startswith("Classes look alike: 'Positive' and 'positive'")


def test_rows_without_a_target_are_not_called_rows_without_text(tmp_path):
    columns = {"source": TEXTS, "target": ["", *[text[::-1] for text in TEXTS[1:]]]}
    notes = prepare(open_rows(tmp_path, "seq2seq_lm", columns=columns)).notes
    assert "1 row without a target (column target) was dropped." in notes
    assert not any("without text" in note for note in notes)


def test_many_rows_that_lack_a_side_are_a_warning(tmp_path):
    columns = {"source": TEXTS, "target": [text[::-1] if n % 2 else "" for n, text in enumerate(TEXTS)]}
    warnings = prepare(open_rows(tmp_path, "seq2seq_lm", columns=columns)).texts["warnings"]
    assert "20 rows lack a text or its target and were dropped: is it in another column?" in warnings


def test_a_target_that_is_always_empty_is_named(tmp_path):
    columns = {"source": TEXTS, "target": [" "] * 40}
    corpus = open_rows(tmp_path, "seq2seq_lm", columns=columns, text_column="source", target_column="target")
    with pytest.raises(DataError, match=r"in 40 rows the target \(column target\) is empty"):
        _ = corpus.assignment


def test_a_table_without_text_is_refused_with_its_columns(tmp_path):
    with pytest.raises(DataError, match="has the columns count, label, none of which contains text"):
        open_rows(tmp_path, "sequence_classification", 2, {"count": [1, 2] * 20, "label": [0, 1] * 20})


def test_other_tags_of_words_are_no_text_that_is_left_out(tmp_path):
    words = [text.split() for text in TEXTS]
    tags = [["O"] * len(row) for row in words]
    columns = {"tokens": words, "pos": [[word[:3] for word in row] for row in words], "ner_tags": tags}
    assert open_rows(tmp_path, "token_classification", 1, columns).columns.warnings == ()


def test_many_rows_without_text_are_a_warning(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": text} if number % 2 else {"content": text} for number, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    warnings = prepare(read_corpus(DataOptions(source=str(path)), "causal_lm")).texts["warnings"]
    assert "20 rows have no text and were dropped: is it in another column?" in warnings


def test_the_letter_of_the_answer_is_a_class_that_a_language_model_does_not_learn(tmp_path):
    columns = {"question": TEXTS, "choices": [["one", "two"]] * 40, "answerKey": ["A", "B"] * 20}
    (found,) = open_rows(tmp_path, "causal_lm", columns=columns).columns.warnings
    assert "column answerKey: A, B" in found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a"},', r"after the first value stands ',' \(character 14\)"),
        ("{'text': 'a'}", "names in single quotes, as Python writes them"),
    ],
)
def test_what_is_wrong_in_json_is_said(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line}\n" * 20)
    with pytest.raises(DataError, match=said):
        read_corpus(DataOptions(source=str(path)), "causal_lm")


def test_blanks_around_bars_are_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text | label\n" + "".join(f"{text} | {number % 2}\n" for number, text in enumerate(TEXTS)))
    corpus = read_corpus(DataOptions(source=str(path)), "sequence_classification")
    assert {document.text for _, document in corpus.all_documents()} == set(TEXTS)


def test_conll_in_a_tsv_is_conll(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("".join("".join(f"{word}\tO\n" for word in text.split()) + "\n" for text in TEXTS))
    corpus = read_corpus(DataOptions(source=str(path)), "token_classification")
    assert {document.text for _, document in corpus.all_documents()} == set(TEXTS)


def test_a_tsv_with_blank_lines_stays_a_table(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"{text}\tABC\n\n" for text in TEXTS))
    corpus = read_corpus(DataOptions(source=str(path)), "causal_lm")
    assert {document.text for _, document in corpus.all_documents()} == set(TEXTS)


@pytest.mark.parametrize("path", ["texts/{}.txt", "{}.wav", "C:\\my texts\\{}.TXT"])
@pytest.mark.parametrize("task", ["sequence_classification", "causal_lm", "masked_lm"])
def test_paths_of_files_are_no_texts(tmp_path, path, task):
    columns = {"text": [path.format(n) for n in range(40)], "label": ["a", "b"] * 20}
    with pytest.raises(DataError, match=r"Column text of .* holds paths of files, such as") as caught:
        open_rows(tmp_path, task, columns=columns)
    assert "data.text_column=text" in caught.value.remedy
    assert open_rows(tmp_path, task, columns=columns, text_column="text").source.columns.text == "text"
    if task != "sequence_classification":  # a list of names of files is what it is
        assert open_rows(tmp_path, task, columns={"text": columns["text"]}).source.columns.text == "text"
    beside = open_rows(tmp_path, task, columns={"file": columns["text"], "note": TEXTS, "label": columns["label"]})
    assert beside.source.columns.text == "note"


@pytest.mark.parametrize("text", ["https://a.org/{}.html", "see {}.txt", "version {}.0", "{}.txt and a/b"])
def test_addresses_and_words_are_no_paths(tmp_path, text):
    columns = {"text": [text.format(n) for n in range(40)], "label": ["a", "b"] * 20}
    assert open_rows(tmp_path, "sequence_classification", columns=columns).source.columns.text == "text"
