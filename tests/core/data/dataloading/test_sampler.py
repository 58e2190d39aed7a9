from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_foundry.core.data.dataloading.sampler import EpochSampler


def all_rows(order, rows, batch_size):
    return [order.batch(index) for index in range(-(-rows // batch_size))]


@given(rows=st.integers(1, 3000), batch_size=st.integers(1, 40), seed=st.integers(0, 5), sides=st.integers(0, 2))
@settings(deadline=None, max_examples=60)
def test_an_epoch_has_every_row_once_and_only_its_last_batch_is_short(rows, batch_size, seed, sides):
    lengths = np.random.default_rng(0).integers(1, 50, (rows, 2))[:, :sides]
    order = EpochSampler(rows, batch_size, (seed,), (lambda numbers: lengths[numbers]) if sides else None)
    batches = all_rows(order, rows, batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_the_order_is_scattered_and_each_key_has_its_own():
    orders = [np.concatenate(all_rows(EpochSampler(5000, 50, (seed,)), 5000, 50)) for seed in range(3)]
    assert all(abs(np.corrcoef(np.arange(5000), order)[0, 1]) < 0.05 for order in orders)
    assert (orders[0] != orders[1]).mean() > 0.99


def test_neighbours_of_a_sorted_file_do_not_meet():
    first = EpochSampler(10_000, 16, (0,)).batch(0)
    assert np.abs(np.diff(np.sort(first))).mean() > 100


def test_without_a_key_rows_keep_their_order():
    assert EpochSampler(5, 2, None).batch(2).tolist() == [4]


def test_billions_of_rows_are_ordered_at_once_in_no_memory():
    rows = EpochSampler(10**10, 16, (0,)).batch(600_000_000)
    assert len(set(rows.tolist())) == 16
    assert rows.max() < 10**10


def fill(lengths, batch_size=16):
    order = EpochSampler(len(lengths), batch_size, (0,), lambda rows: lengths[rows])
    parts = [lengths[batch] for batch in all_rows(order, len(lengths), batch_size)]
    return sum(part.sum() for part in parts) / sum(part.max(axis=0).sum() * len(part) for part in parts)


def test_rows_of_like_length_meet():
    lengths = np.exp(np.random.default_rng(0).normal(3.5, 0.8, (20_000, 1))).astype(int).clip(2, 128)
    assert fill(lengths) > 0.97


def test_pairs_of_like_lengths_meet_on_both_sides():
    random = np.random.default_rng(0)
    source = np.exp(random.normal(3.5, 0.8, 20_000)).clip(2, 128)
    target = (source * random.uniform(0.8, 1.2, 20_000)).clip(2, 128)
    assert fill(np.stack([source, target], axis=1).astype(int)) > 0.97


def test_batches_of_long_and_of_short_rows_alternate():
    lengths = np.arange(1, 8193)[:, None]
    order = EpochSampler(8192, 16, (0,), lambda rows: lengths[rows])
    means = [lengths[order.batch(index)].mean() for index in range(512)]
    assert abs(np.corrcoef(np.arange(512), means)[0, 1]) < 0.15
