from __future__ import annotations

import math

import numpy as np
import pytest

from tests.core.data.samples import prepare
from transformer_foundry.core.data.profile.baselines import bigram_loss, naive_bayes_accuracy, unigram_loss
from transformer_foundry.core.data.tokenized.memmap import RaggedArray


def chain(length, vocab_size, seed):
    """A Markov chain with a random transition table, the table, and its stationary distribution."""
    random = np.random.default_rng(seed)
    table = np.random.default_rng(7).dirichlet(np.full(vocab_size, 0.3), size=vocab_size)
    tokens = [0]
    for draw in random.random(length - 1):
        tokens.append(int(np.searchsorted(table[tokens[-1]].cumsum(), draw).clip(max=vocab_size - 1)))
    return np.array(tokens), table


def test_unigram_loss_is_the_cross_entropy_with_one_added():
    loss = unigram_loss(np.array([0, 0, 1]), np.array([0, 2]), vocab_size=3)
    assert loss == pytest.approx(-(math.log(3 / 6) + math.log(1 / 6)) / 2)


def test_bigram_loss_reaches_the_entropy_of_a_markov_chain():
    train, table = chain(60_000, 12, seed=0)
    validation, _ = chain(20_000, 12, seed=1)
    ideal = -np.log(table[validation[:-1], validation[1:]]).mean()
    assert bigram_loss(train, validation, 12) == pytest.approx(ideal, abs=0.01)


def test_bigram_is_no_worse_than_unigram_where_pairs_say_nothing():
    random = np.random.default_rng(0)
    train, validation = random.integers(0, 200, 3000), random.integers(0, 200, 3000)
    assert bigram_loss(train, validation, 200) < unigram_loss(train, validation, 200) + 0.02


def test_bigram_probabilities_sum_to_one():
    train = np.array([0, 1, 2, 0, 1, 1, 2, 2, 0, 1] * 5)
    losses = [bigram_loss(train, np.array([1, token]), 4) for token in range(4)]
    assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


def test_bigram_loss_of_hardly_any_text_is_finite():
    assert math.isfinite(bigram_loss(np.array([0, 1]), np.array([1, 2, 0]), 3))


def test_naive_bayes_agrees_with_the_formula():
    train, labels = RaggedArray.from_rows([[0, 0, 1], [1, 1], [0, 2]]), np.array([0, 1, 0])
    rows = [[0], [1], [1, 1, 0], [2]]
    counts = np.array([[3, 1, 1], [0, 2, 0]]) + 1
    scores = np.log(np.array([3, 2])) + np.array(
        [[np.log(counts[c] / counts[c].sum())[row].sum() for c in (0, 1)] for row in rows]
    )
    accuracy = naive_bayes_accuracy(train, labels, RaggedArray.from_rows(rows), np.zeros(4, int), vocab_size=3)
    assert accuracy == np.mean(scores.argmax(axis=1) == 0)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("causal_lm", {"unigram_loss", "bigram_loss"}),
        ("masked_lm", {"unigram_loss"}),
        ("seq2seq_lm", {"unigram_loss"}),
        ("sequence_classification", {"prior_loss", "majority_accuracy", "naive_bayes_accuracy"}),
    ],
)
def test_each_task_has_its_baselines(tmp_path, task, names):
    baselines = prepare(task, tmp_path)[0].baselines
    assert set(baselines) == names
    assert all(math.isfinite(value) and value >= 0 for value in baselines.values())
