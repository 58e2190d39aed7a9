from __future__ import annotations

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


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare_file(path, task, folder, vocab_size=400, **settings):
    options = DataOptions(source=str(path))
    contract = contract_for(task, vocab_size, **{"output_size": 3, "num_labels": 3, "max_length": 64, **settings})
    corpus = read_corpus(options, task, contract.num_labels)
    tokenizer = fit_tokenizer(corpus, contract, options)
    return prepare_splits(corpus, tokenizer, contract, options, folder), tokenizer, corpus


def tagged_rows():
    """Each word has the parity of its length as its tag."""
    return [{"tokens": text.split(), "ner_tags": [len(word) % 2 for word in text.split()]} for text in TEXTS]


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tags")
    return prepare_file(write(folder / "a.jsonl", tagged_rows()), "token_classification", folder / "tokens")


def test_every_word_has_its_tag_on_its_first_token(tagged):
    splits, tokenizer, corpus = tagged
    documents = list(corpus.documents("train"))
    for ids, tags, document in zip(splits.train.input_ids, splits.train.token_labels, documents, strict=True):
        starts = np.flatnonzero(tags != -100)
        words = [tokenizer.decode(part).strip() for part in np.split(ids, starts)[1:]]
        assert words == list(document.words)
        assert tags[starts].tolist() == [len(word) % 2 for word in document.words]


def test_a_batch_has_a_label_for_each_token_and_none_for_padding(tagged):
    splits, _, _ = tagged
    batch = Batches(splits.train, splits, batch_size=8).batch(0)
    assert batch["labels"].shape == batch["input_ids"].shape
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert (batch["labels"] >= 0).sum(dim=1).tolist() == [13] * 8


def test_targets_of_tags_are_the_words(tagged):
    splits, tokenizer, corpus = tagged
    assert splits.train.target_count == sum(len(document.words) for document in corpus.documents("train"))
    assert splits.baselines["naive_bayes_accuracy"] > splits.baselines["majority_accuracy"]
    assert set(profile_splits(splits, tokenizer)["examples"][0]["expected"].split()) <= {"0", "1"}


def test_a_long_row_of_tags_is_cut_with_its_tokens(tmp_path):
    path = write(tmp_path / "a.jsonl", tagged_rows())
    splits, _, _ = prepare_file(path, "token_classification", tmp_path / "tokens", max_length=7)
    assert set(splits.train.input_ids.lengths()) == set(splits.train.token_labels.lengths()) == {7}


def test_words_and_tags_may_be_separated_by_blanks(tmp_path):
    (tmp_path / "a.csv").write_text("text,tags\n" + "".join(f"{text},{'x ' * 12}y\n" for text in TEXTS))
    corpus = read_corpus(DataOptions(source=str(tmp_path / "a.csv")), "token_classification")
    assert corpus.label_names == ("x", "y")
    assert all(document.tags == (0,) * 12 + (1,) for document in corpus.documents("train"))


def test_more_words_than_tags_are_refused_with_their_row(tmp_path):
    rows = tagged_rows()
    rows[4]["ner_tags"].pop()
    with pytest.raises(DataError, match=r"a.jsonl, line 5: 13 words \(column tokens\) but 12 tags"):
        _ = read_corpus(DataOptions(source=str(write(tmp_path / "a.jsonl", rows))), "token_classification").assignment


def test_a_table_without_tags_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": text, "year": 1} for text in TEXTS])
    with pytest.raises(DataError, match="has the name of tags; columns: text, year"):
        read_corpus(DataOptions(source=str(path)), "token_classification")


def compared_rows():
    return [
        {"premise": text, "hypothesis": text.upper(), "label": number % 3, "idx": number}
        for number, text in enumerate(TEXTS)
    ]


def test_two_texts_are_classified_together_with_an_end_after_each(tmp_path):
    path = write(tmp_path / "a.jsonl", compared_rows())
    splits, tokenizer, corpus = prepare_file(path, "sequence_classification", tmp_path / "t", max_length=256)
    document, row = next(corpus.documents("train")), splits.train.input_ids[0].tolist()
    shown = tokenizer.decode(row, skip_special_tokens=False)
    assert shown == f"<|bos|>{document.text}<|eos|>{document.pair}<|eos|>"


def test_of_two_long_texts_the_longer_is_cut_and_both_ends_stay(tmp_path):
    rows = [{**row, "hypothesis": "short one"} for row in compared_rows()]
    path = write(tmp_path / "a.jsonl", rows)
    splits, tokenizer, _ = prepare_file(path, "sequence_classification", tmp_path / "t", max_length=13)
    shown = [tokenizer.decode(row, skip_special_tokens=False) for row in splits.train.input_ids]
    assert all(text.endswith("<|eos|>short one<|eos|>") for text in shown)
    assert splits.train.counts["truncated_rows"] == len(splits.train)
    assert splits.train.counts["truncated_tokens"] > 0


def test_the_second_text_can_be_named(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"a": t, "b": t[::-1], "c": "x", "label": 1} for t in TEXTS])
    options = DataOptions(source=str(path), text_column="a", pair_column="b")
    document = next(read_corpus(options, "sequence_classification").documents("train"))
    assert document.pair == document.text[::-1]


def test_a_decoder_reads_a_pair_as_one_text(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": text, "completion": text.upper()} for text in TEXTS])
    corpus = read_corpus(DataOptions(source=str(path)), "causal_lm")
    assert {document.text for document in corpus.documents("train")} <= {f"{text}\n{text.upper()}" for text in TEXTS}
    assert "joined" in str(corpus.columns)


def in_parts(text):
    """What a turn holds where it may hold pictures too."""
    return [{"type": "text", "text": text}, {"type": "image", "text": None}]


@pytest.mark.parametrize("hold", [str, in_parts])
def test_a_conversation_is_read_turn_by_turn(tmp_path, hold):
    turns = [[{"role": "user", "content": hold(text)}, {"role": "assistant", "content": hold("yes")}] for text in TEXTS]
    path = write(tmp_path / "a.jsonl", [{"messages": turn} for turn in turns])
    document = next(read_corpus(DataOptions(source=str(path)), "causal_lm").documents("train"))
    assert document.text.split("\n")[0] in {f"user: {text}" for text in TEXTS}
    assert document.text.endswith("\nassistant: yes")


@pytest.mark.parametrize(("asked", "target"), [(None, "answer"), (True, None), (False, "answer")])
def test_spans_are_hidden_when_asked_for_or_for_want_of_pairs(tmp_path, asked, target):
    path = write(tmp_path / "a.jsonl", [{"question": text, "answer": "no"} for text in TEXTS])
    options = DataOptions(source=str(path), span_corruption=asked, text_column="question" if asked else None)
    assert read_corpus(options, "seq2seq_lm").columns.target == target


def test_plain_text_without_pairs_is_refused_where_spans_are_not_wanted(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS))
    with pytest.raises(DataError, match="plain text, which has no targets"):
        read_corpus(DataOptions(source=str(tmp_path / "a.txt"), span_corruption=False), "seq2seq_lm")
    assert read_corpus(DataOptions(source=str(tmp_path / "a.txt")), "seq2seq_lm").corrupts_spans


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_a_number_sign_with_a_tag_is_a_word_and_no_comment(tmp_path, separator):
    path = tmp_path / "a.conll"
    words = [("#", "O"), ("Zürich", "B-LOC"), ("flat", "O"), ("#", "I-LOC"), ("4", "O")]
    sentence = "# sent 1\n# none\n" + "".join(f"{word}{separator}{tag}\n" for word, tag in words) + "\n"
    sentence = "# O\n" * (separator == "\t") + sentence  # as other lines have a tab, it is a comment
    path.write_text(("-DOCSTART- O\n\n" + sentence + f"x{separator}I-LOC\n\n") * 4, encoding="utf-8")
    [*rows] = read_corpus(DataOptions(source=str(path)), "token_classification").source.documents("train")
    assert rows[0].words == ("#", "Zürich", "flat", "#", "4")
    assert rows[0].tags == ("O", "B-LOC", "O", "I-LOC", "O")


SENTENCE = (("Ann", "B-PER"), ("lives", "O"), ("in", "O"), ("Oslo", "B-LOC"))


@pytest.mark.parametrize("blank", ["", " ", "\t", " \t"])
@pytest.mark.parametrize("line", ["{0}\t{1}", "{0} {1}", "{1}\t{0}"])
def test_blank_lines_may_hold_blanks_and_tags_stand_first(tmp_path, blank, line):
    block = "".join(line.format(*pair) + "\n" for pair in SENTENCE)
    (tmp_path / "a.txt").write_text(f"{block}{blank}\n" * 12)
    source = read_corpus(DataOptions(source=str(tmp_path / "a.txt")), "token_classification").source
    found = {(document.words, document.tags) for document in source.documents("train")}
    assert found == {tuple(zip(*SENTENCE, strict=True))}
