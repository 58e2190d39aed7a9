from __future__ import annotations

import json

import pytest

from tests.core.data.samples import contract_for, corpus_of, prepare, sentences
from transformer_foundry.core.data import DataOptions, Document, fit_tokenizer, prepare_splits, profile_splits

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")


def checks_of(profile):
    return {finding["check"] for finding in profile["findings"]}


@pytest.mark.parametrize("task", TASKS)
def test_the_profile_survives_json(tmp_path, task):
    splits, tokenizer, _ = prepare(task, tmp_path)
    profile = profile_splits(splits, tokenizer)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    assert profile["baselines"] == splits.baselines


def test_counts_are_those_of_the_splits(tmp_path):
    splits, tokenizer, corpus = prepare("causal_lm", tmp_path)
    train = profile_splits(splits, tokenizer)["splits"]["train"]
    documents = list(corpus.documents("train"))
    ids = sum(len(tokenizer.encode(document.text)) for document in documents)
    assert train["documents"] == len(documents)
    assert train["tokens"] == ids + len(documents) + 1
    assert train["targets"] == train["tokens"] - 1


def test_examples_show_what_the_model_sees(tmp_path):
    splits, tokenizer, _ = prepare("seq2seq_lm", tmp_path, max_length=64)
    example = profile_splits(splits, tokenizer)["examples"][0]
    assert example["input"].endswith("<|eos|>")
    assert example["expected"].removesuffix("<|eos|>") == " ".join(reversed(example["input"].split()[:6]))


def test_the_balance_of_the_labels_is_counted(tmp_path):
    splits, tokenizer, corpus = prepare("sequence_classification", tmp_path)
    assert profile_splits(splits, tokenizer)["labels"]["train"] == {
        name: sum(document.label == number for document in corpus.documents("train"))
        for number, name in enumerate(("even", "odd"))
    }


def test_little_text_is_found(tmp_path):
    splits, tokenizer, _ = prepare("causal_lm", tmp_path, vocab_size=5000)
    profile = profile_splits(splits, tokenizer)
    assert {"amount", "split size", "preparation"} <= checks_of(profile)
    assert any("of the model's 5000 tokens" in finding["message"] for finding in profile["findings"])


def test_cut_rows_are_found(tmp_path):
    splits, tokenizer, _ = prepare("sequence_classification", tmp_path, max_length=5)
    assert "truncation" in checks_of(profile_splits(splits, tokenizer))


def test_unknown_characters_are_counted(tmp_path):
    splits, tokenizer, corpus = prepare("causal_lm", tmp_path, vocab_size=30)
    text = "".join(document.text for document in corpus.documents("train"))
    known = tokenizer.backend.get_vocab()
    share = sum(character not in known for character in text) / splits.train.counts["tokens"]
    profile = profile_splits(splits, tokenizer)
    assert profile["vocabulary"]["unknown_share"] == pytest.approx(share, abs=1e-6)
    assert ("unknown tokens" in checks_of(profile)) == (share > 0.01)


def test_lopsided_and_absent_labels_are_found(tmp_path):
    documents = [Document(text, label=2 if number == 0 else 0) for number, text in enumerate(sentences(60))]
    corpus = corpus_of(documents, "sequence_classification")
    contract = contract_for("sequence_classification", output_size=3)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    profile = profile_splits(prepare_splits(corpus, tokenizer, contract, DataOptions(), tmp_path), tokenizer)
    assert {"labels", "label balance"} <= checks_of(profile)
