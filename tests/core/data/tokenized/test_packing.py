from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_foundry.core.data.tokenized.packing import BestFitPacker

DOCUMENTS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def pack(lengths, row_length, waiting_tokens=2**20):
    """The order in which documents of these lengths come out, each filled with its number."""
    packer = BestFitPacker(row_length, waiting_tokens)
    ordered = [np.array(part) for n, size in enumerate(lengths) for part in packer.add(np.full(size, n))]
    return [*ordered, *packer.flush()], packer


def cut_by_hand(ordered, row_length):
    """How many documents that fit into a row lie on both sides of the end of a row."""
    ends = np.cumsum([len(part) for part in ordered])
    starts = ends - [len(part) for part in ordered]
    return sum(
        start // row_length != (end - 1) // row_length
        for start, end, part in zip(starts, ends, ordered, strict=True)
        if len(part) <= row_length
    )


@given(lengths=DOCUMENTS, row_length=st.integers(1, 32), waiting=st.integers(0, 200))
@settings(deadline=None)
def test_every_document_comes_out_once_and_whole(lengths, row_length, waiting):
    ordered, _ = pack(lengths, row_length, waiting)
    assert Counter((int(part[0]), len(part)) for part in ordered) == Counter(enumerate(lengths))
    assert all((part == part[0]).all() for part in ordered)


@given(lengths=DOCUMENTS, row_length=st.integers(1, 32), waiting=st.integers(0, 200))
@settings(deadline=None)
def test_cut_documents_are_counted(lengths, row_length, waiting):
    ordered, packer = pack(lengths, row_length, waiting)
    assert packer.cut_documents == cut_by_hand(ordered, row_length)


def test_documents_that_fill_rows_together_are_not_cut():
    _, packer = pack([7, 7, 7, 3, 3, 3], 10)
    assert packer.cut_documents == 0


def test_long_documents_begin_a_row():
    ordered, _ = pack([25, 5, 25, 5], 10)
    assert [len(part) for part in ordered] == [25, 5, 25, 5]


def test_far_fewer_documents_are_cut_than_in_the_order_of_the_file():
    lengths = np.random.default_rng(0).integers(2, 120, 5000)
    in_order = cut_by_hand([np.zeros(size) for size in lengths], 127)
    _, packer = pack(lengths.tolist(), 127)
    assert in_order > 2000
    assert packer.cut_documents < in_order / 20


def test_what_waits_is_bounded():
    packer, waiting = BestFitPacker(10, waiting_tokens=50), 0
    for _ in range(100):
        waiting += 7 - sum(len(part) for part in packer.add(np.zeros(7)))
        assert waiting <= 50


def test_a_row_without_room_is_a_bug():
    with pytest.raises(AssertionError):
        BestFitPacker(0)
