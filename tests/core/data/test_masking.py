from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.data.samples import contract_for, corpus_of, sentences
from transformer_foundry.core.data import Batches, DataOptions, Document, fit_tokenizer, prepare_splits
from transformer_foundry.core.data.masking import corrupt_spans, count_spans

SENTINELS = tuple(range(1000, 1100))
EOS = 1


def restore(source, target):
    """Put what the target says in place of the sentinels."""
    gone, current = {}, None
    for token in target[:-1].tolist():
        if token in SENTINELS:
            current = gone.setdefault(token, [])
        else:
            current.append(token)
    return [word for token in source[:-1].tolist() for word in gone.get(token, [token])]


@given(length=st.integers(1, 300), seed=st.integers(0, 3))
@settings(deadline=None)
def test_input_and_target_together_hold_every_token(length, seed):
    row = np.arange(10, 10 + length)
    source, target = corrupt_spans(row, np.random.default_rng(seed), SENTINELS, EOS)
    assert restore(source, target) == row.tolist()
    assert source[-1] == target[-1] == EOS
    assert max(len(source), len(target)) <= length + 2


@given(length=st.integers(8, 512), seed=st.integers(0, 3))
@settings(deadline=None)
def test_sentinels_come_in_order_and_fifteen_percent_are_hidden(length, seed):
    source, target = corrupt_spans(np.full(length, 5), np.random.default_rng(seed), SENTINELS, EOS)
    marks = [token for token in source.tolist() if token in SENTINELS]
    assert marks == list(SENTINELS[: count_spans(length)]) == [token for token in target.tolist() if token in SENTINELS]
    assert abs((target == 5).sum() - 0.15 * length) <= 1
    assert len(source) <= length + 1


def test_spans_are_where_chance_puts_them():
    starts = set()
    for seed in range(30):
        source, _ = corrupt_spans(np.full(100, 5), np.random.default_rng(seed), SENTINELS, EOS)
        starts.add(int(np.flatnonzero(source >= 1000)[0]))
    assert len(starts) > 10


def prepare_spans(folder, length=32):
    corpus = corpus_of([Document(text) for text in sentences(200)], "seq2seq_lm")
    contract = contract_for("seq2seq_lm", max_length=length)
    tokenizer = fit_tokenizer(corpus, contract, DataOptions())
    return prepare_splits(corpus, tokenizer, contract, DataOptions(), folder), tokenizer


def test_text_without_targets_becomes_spans_to_fill_in(tmp_path):
    splits, tokenizer = prepare_spans(tmp_path)
    batch = Batches(splits.train, splits, batch_size=8, shuffle=True).batch(0)
    first = tokenizer.special.sentinels[0]
    assert (batch["input_ids"] == first).any(dim=1).all()
    assert (batch["labels"][:, 0] == first).all()
    assert max(batch["input_ids"].shape[1], batch["labels"].shape[1]) <= splits.max_length
    assert torch.equal(batch["decoder_input_ids"][:, 1:][batch["labels"][:, 1:] != -100], shifted(batch["labels"]))


def shifted(labels):
    return labels[:, :-1][labels[:, 1:] != -100]


def test_other_spans_are_hidden_in_each_epoch_and_the_same_in_evaluation(tmp_path):
    splits, _ = prepare_spans(tmp_path)
    training = Batches(splits.train, splits, batch_size=len(splits.train), shuffle=True)
    evaluation = Batches(splits.train, splits, batch_size=len(splits.train))
    assert not torch.equal(training.batch(0)["labels"].sort()[0], training.batch(1)["labels"].sort()[0])
    assert torch.equal(evaluation.batch(0)["labels"], evaluation.batch(1)["labels"])


def test_there_are_as_many_sentinels_as_a_row_needs(tmp_path):
    splits, tokenizer = prepare_spans(tmp_path, length=128)
    assert len(tokenizer.special.sentinels) == count_spans(128) == 6
    assert tokenizer.token(tokenizer.special.sentinels[0]) == "<extra_id_0>"
    assert 0 < splits.baselines["unigram_loss"] < np.log(300)
