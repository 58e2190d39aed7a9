from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.data.samples import prepare
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import Batches, RaggedArray, TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")
SPECIAL = SpecialIds(pad=0, bos=1, eos=2, mask=3, decoder_start=1)


def splits_of(task, rows, targets=None, labels=None, vocab_size=100):
    split = TokenSplit(
        "train",
        RaggedArray.from_rows(rows),
        None if targets is None else RaggedArray.from_rows(targets),
        None if labels is None else np.array(labels),
    )
    return TokenSplits(split, split, split, task, vocab_size, 64, "f", SPECIAL)


def batches_of(task, rows, *, batch_size=2, **columns):
    splits = splits_of(task, rows, **columns)
    return Batches(splits.train, splits, batch_size=batch_size)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return {task: prepare(task, tmp_path_factory.mktemp(task))[0] for task in TASKS}


@given(position=st.integers(0, 500), seed=st.integers(0, 3), task=st.sampled_from(TASKS))
@settings(max_examples=60, deadline=None)
def test_a_batch_is_a_function_of_seed_and_position(prepared, position, seed, task):
    splits = prepared[task]
    settings = {"batch_size": 4, "seed": seed, "shuffle": True}
    used, fresh = (Batches(splits.train, splits, **settings) for _ in range(2))
    used.batch(position // 2)
    first, second = used.batch(position), fresh.batch(position)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@given(rows=st.integers(1, 50), batch_size=st.integers(1, 12), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_row_exactly_once(rows, batch_size, epoch):
    splits = splits_of("causal_lm", [[5, 6]] * rows)
    batches = Batches(splits.train, splits, batch_size=batch_size, seed=1, shuffle=True)
    seen = np.concatenate([batches.rows(epoch * len(batches) + index) for index in range(len(batches))])
    assert sorted(seen) == list(range(rows))


def test_each_epoch_and_each_seed_has_its_own_order():
    splits = splits_of("causal_lm", [[5, 6]] * 64)
    first, second = (Batches(splits.train, splits, batch_size=64, seed=seed, shuffle=True) for seed in (0, 1))
    orders = [batches.rows(epoch).tolist() for batches in (first, second) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_rows_are_padded_to_the_longest_of_the_batch():
    batch = batches_of("causal_lm", [[5, 6, 7], [8], [9] * 9]).batch(0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]


@pytest.mark.parametrize("targets", [None, [[5], [6, 7, 8, 9], [5], [5]]])
def test_the_size_of_a_batch_counts_its_padding(targets):
    rows = [[5, 6, 7], [8], [9] * 9, [4]]
    batches = batches_of("causal_lm" if targets is None else "seq2seq_lm", rows, targets=targets)
    for position in range(len(batches)):
        batch = batches.batch(position)
        sides = [batch[name] for name in ("input_ids", "decoder_input_ids") if name in batch]
        assert batches.padded_size(position) == sum(side.numel() for side in sides)


def test_a_real_token_with_the_id_of_the_padding_is_a_target():
    batch = batches_of("causal_lm", [[5, 0, 7], [0]]).batch(0)
    assert batch["labels"].tolist() == [[5, 0, 7], [0, -100, -100]]


def test_a_classifier_gets_one_label_for_each_row():
    batch = batches_of("sequence_classification", [[5], [6, 7]], labels=[1, 0]).batch(0)
    assert batch["labels"].tolist() == [1, 0]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_the_decoder_sees_the_target_shifted_behind_its_start():
    batch = batches_of("seq2seq_lm", [[5, 2], [6, 2]], targets=[[7, 8, 2], [9, 2]]).batch(0)
    assert batch["decoder_input_ids"].tolist() == [[1, 7, 8], [1, 9, 0]]
    assert batch["decoder_attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[7, 8, 2], [9, 2, -100]]


def test_all_tensors_are_int64(prepared):
    for splits in prepared.values():
        batch = Batches(splits.train, splits, batch_size=3).batch(0)
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def masked_batch(rows=256, length=64):
    ids = np.random.default_rng(0).integers(4, 100, (rows, length))
    return ids, batches_of("masked_lm", ids.tolist(), batch_size=rows).batch(0)


def test_masking_follows_the_shares_of_bert():
    _, batch = masked_batch()
    chosen = batch["labels"] != -100
    seen = batch["input_ids"][chosen]
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.01)
    assert (seen == 3).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (seen == batch["labels"][chosen]).float().mean() == pytest.approx(0.1, abs=0.02)


def test_masking_changes_only_targets_and_labels_hold_the_truth():
    ids, batch = masked_batch()
    truth, chosen = torch.from_numpy(ids), batch["labels"] != -100
    assert torch.equal(batch["input_ids"][~chosen], truth[~chosen])
    assert torch.equal(batch["labels"][chosen], truth[chosen])


def test_special_tokens_are_never_hidden_nor_put_in():
    rows = [[2, 5, 6, 7, 8, 9, 2, 10, 11]] * 300
    batch = batches_of("masked_lm", rows, batch_size=300).batch(0)
    chosen = batch["labels"] != -100
    assert not chosen[:, [0, 6]].any()
    replaced = batch["input_ids"][chosen & (batch["input_ids"] != 3)]
    assert int(replaced.min()) > 3


def test_even_the_smallest_batch_has_a_target():
    batches = batches_of("masked_lm", [[5]], batch_size=1)
    assert all((batches.batch(position)["labels"] != -100).any() for position in range(20))


def test_masks_change_with_the_position_while_training_and_never_in_evaluation():
    splits = splits_of("masked_lm", np.arange(4, 68).reshape(1, 64).tolist())
    training = Batches(splits.train, splits, batch_size=1, seed=0, shuffle=True)
    evaluation = Batches(splits.train, splits, batch_size=1, seed=0)
    assert not torch.equal(training.batch(0)["labels"], training.batch(1)["labels"])
    assert torch.equal(evaluation.batch(0)["labels"], evaluation.batch(1)["labels"])


def test_describe_names_the_rows_of_a_position():
    assert batches_of("causal_lm", [[5], [6], [7]]).describe(3) == {
        "split": "train",
        "epoch": 1,
        "batch": 1,
        "rows": [2],
    }


def test_a_split_without_rows_is_refused():
    with pytest.raises(DataError, match="train split has no rows"):
        batches_of("causal_lm", [])


def test_a_negative_position_is_refused():
    with pytest.raises(ValueError, match="position is -1"):
        batches_of("causal_lm", [[5]]).batch(-1)
