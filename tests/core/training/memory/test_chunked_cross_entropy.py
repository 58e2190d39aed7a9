from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_foundry.core.training.memory.chunked_cross_entropy import (
    CHUNK_BYTES,
    GPU_CHUNK_BYTES,
    Head,
    chunk_rows,
    chunked_argmax,
    chunked_cross_entropy,
)

N, D, V = 23, 8, 37


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in ((N, D), (V, D), (V,))
    )
    labels = torch.randint(V, (N,), generator=generator)
    labels[[2, 3, 22]] = -100
    return hidden, weight, bias, labels


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_loss_and_gradients_are_those_of_torch(rows: int, smoothing: float, reduction: str) -> None:
    hidden, weight, bias, labels = inputs()
    settings = {"reduction": reduction, "label_smoothing": smoothing}
    expected = F.cross_entropy(F.linear(hidden, weight, bias), labels, **settings)
    found, _ = chunked_cross_entropy(hidden, Head(weight, bias), labels, rows=rows, **settings)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    wanted = torch.autograd.grad(3 * expected, (hidden, weight, bias))
    for ours, theirs in zip(torch.autograd.grad(3 * found, (hidden, weight, bias)), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_what_is_done_to_the_logits_has_its_gradients_too() -> None:
    hidden, weight, bias, labels = inputs()
    cap = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    steps = ((torch.mul, (cap,), {}), (torch.tanh, (), {}), (torch.add, (bias,), {}))
    expected = F.cross_entropy(torch.tanh(F.linear(hidden, weight) * cap) + bias, labels, reduction="sum")
    found, _ = chunked_cross_entropy(hidden, Head(weight, None, steps), labels, rows=4)
    leaves = (hidden, weight, bias, cap)
    for ours, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_under_autocast_the_gradients_are_as_near_as_the_format_allows(dtype: torch.dtype, tolerance: float) -> None:
    hidden, weight, bias, labels = inputs(torch.float32)
    exact = torch.autograd.grad(
        F.cross_entropy(F.linear(hidden, weight, bias), labels, reduction="sum"), (hidden, weight, bias)
    )
    with torch.autocast("cpu", dtype=dtype):
        found, _ = chunked_cross_entropy(hidden, Head(weight, bias), labels, rows=4)
    assert found.dtype is torch.float32
    for ours, theirs in zip(torch.autograd.grad(found, (hidden, weight, bias)), exact, strict=True):
        assert ours.dtype is torch.float32
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def test_small_probabilities_survive_half_precision() -> None:
    """A vocabulary of 50,000: a probability of 2e-5 loses its digits in fp16 unless it is scaled."""
    vocab_size = 50_000
    hidden = torch.full((4, D), 0.5, requires_grad=True)
    weight = torch.zeros(vocab_size, D, requires_grad=True)
    labels = torch.arange(4)
    with torch.autocast("cpu", dtype=torch.float16):
        found, _ = chunked_cross_entropy(hidden, Head(weight), labels)
    (gradient,) = torch.autograd.grad(found, weight)
    expected = 4 / vocab_size * 0.5
    assert gradient[100, 0].item() == pytest.approx(expected, rel=1e-3)


def test_without_gradients_it_gives_the_likeliest_classes() -> None:
    hidden, weight, bias, labels = inputs()
    head = Head(weight, bias)
    with torch.no_grad():
        loss, classes = chunked_cross_entropy(hidden, head, labels, rows=4)
    logits = F.linear(hidden, weight, bias)
    assert classes is not None
    assert torch.equal(classes, logits.argmax(-1))
    assert torch.equal(chunked_argmax(hidden, head), logits.argmax(-1))
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), rel=1e-6)


def test_rows_without_a_target_may_hold_anything() -> None:
    hidden, weight, bias, labels = inputs()
    with torch.no_grad():
        hidden[2] = float("nan")
    found, _ = chunked_cross_entropy(hidden, Head(weight, bias), labels, rows=4)
    assert found.isfinite()


def test_the_gradients_can_be_had_once() -> None:
    hidden, weight, bias, labels = inputs()
    loss, _ = chunked_cross_entropy(hidden, Head(weight, bias), labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_a_chunk_has_its_size() -> None:
    rows, rows_on_gpu = (chunk_rows(50257, torch.device(name)) for name in ("cpu", "cuda"))
    assert rows * 50257 * 4 <= CHUNK_BYTES < (rows + 1) * 50257 * 4
    assert rows_on_gpu * 50257 * 4 <= GPU_CHUNK_BYTES < (rows_on_gpu + 1) * 50257 * 4
    assert chunk_rows(10**9, torch.device("cpu")) == 1
