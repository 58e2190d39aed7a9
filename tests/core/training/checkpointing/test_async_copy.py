from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from transformer_foundry.core.training.checkpointing.async_copy import SMALLEST_BUFFER_BYTES, StagingBuffers

LARGE = SMALLEST_BUFFER_BYTES // 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("size", [0, 3, LARGE])
def test_a_copy_has_the_same_values_and_shares_nothing(dtype: torch.dtype, size: int) -> None:
    tensor = torch.arange(2 * size).reshape(2, size).to(dtype)
    copied = StagingBuffers().copy(tensor)
    assert (copied.dtype, copied.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(copied, tensor)
    tensor.zero_()
    assert not size or copied.any()


def test_a_transposed_view_is_copied_as_it_is_seen() -> None:
    view = torch.arange(4 * LARGE).reshape(4, LARGE).t()
    assert torch.equal(StagingBuffers().copy(view), view)


def test_memory_is_reused_once_nothing_references_the_copy() -> None:
    buffers = StagingBuffers()
    first = buffers.copy(torch.zeros(LARGE))
    address = first.data_ptr()
    del first
    assert buffers.copy(torch.ones(LARGE)).data_ptr() == address


def test_a_copy_of_which_only_a_view_is_held_is_not_overwritten() -> None:
    buffers = StagingBuffers()
    row = buffers.copy(torch.zeros(2, LARGE))[1]
    buffers.copy(torch.ones(2, LARGE))
    assert not row.any()


def test_two_copies_that_are_held_do_not_share_memory() -> None:
    buffers = StagingBuffers()
    first, second = buffers.copy(torch.zeros(LARGE)), buffers.copy(torch.ones(LARGE))
    assert (first.sum(), second.sum()) == (0, LARGE)


@pytest.mark.parametrize(
    "make", [torch.ones, lambda *shape: torch.ones(shape).t(), lambda *s: torch.ones(s).bfloat16()]
)
def test_a_copy_that_was_put_off_is_complete_when_it_is_read(make: Callable[..., Tensor]) -> None:
    buffers, tensor = StagingBuffers(), make(2, LARGE)
    copies = buffers.begin({"name": buffers.copy_later(tensor)})
    buffers.wait()
    expected = tensor.clone()
    tensor.zero_()
    assert torch.equal(copies["name"], expected)


def test_a_copy_that_was_not_begun_is_given_up() -> None:
    buffers = StagingBuffers()
    address = buffers.copy_later(torch.ones(LARGE)).data_ptr()
    buffers.wait()
    assert buffers.copy_later(torch.ones(LARGE)).data_ptr() == address
