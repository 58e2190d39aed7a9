"""Cross-entropy of a linear head in chunks of rows: the logits are never in memory as a whole.

The gradients of a chunk are computed with its loss, while its logits exist (as in Liger, Hsu et al. 2024), so that
the number of matrix products is the same as without chunks.

``F.linear_cross_entropy`` of torch 2.13 does the same. With the same chunks (333 rows of 2048, vocabulary 50,257,
float32, one x86 thread) it takes 1.12 s and 90 MiB at width 128, where this module takes 1.31 s and 89 MiB, and 5.0 s
and 307 MiB at width 768, where this module takes 5.3 s and 218 MiB. It is not used: torch 2.9 to 2.12 lack it, so this
module would stay; it returns a bfloat16 loss under autocast and no predicted classes; it has no place for scaling and
capping of logits; and a run would get other bits when torch is updated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CHUNK_BYTES", "Head", "chunk_rows", "chunked_argmax", "chunked_cross_entropy"]

CHUNK_BYTES = 64 * 2**20
"""Memory of the float32 logits of a chunk. The automatic chunks of torch have 4 rows at width 128 and a
vocabulary of 50,000, which is 6 times slower on a CPU."""

GPU_CHUNK_BYTES = 4 * CHUNK_BYTES
"""The same on a GPU, which small products leave idle."""

# Gradients are computed before the scale of the loss is known: at a vocabulary of 50,000 the probability of most tokens
# is below what half precision can hold.
_HALF_SCALE = 1024.0


@dataclass(frozen=True)
class Head:
    """Computes logits from hidden states.

    Attributes:
        weight: (V, D) float.
        bias: (V,) float or None.
        steps: Row-wise operations of the model on the logits (scaling, soft-capping): function, arguments after the
            logits, keywords.
    """

    weight: Tensor
    bias: Tensor | None = None
    steps: tuple[tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]], ...] = ()

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of ``hidden`` (..., D)."""
        return self.finish(F.linear(hidden, self.weight, self.bias))

    def finish(self, logits: Tensor) -> Tensor:
        """Apply the steps to ``logits``."""
        for function, arguments, keywords in self.steps:
            logits = function(logits, *arguments, **keywords)
        return logits

    def tensors(self) -> list[Tensor]:
        """Return the tensors that the steps use besides the logits."""
        return [value for _, arguments, _ in self.steps for value in arguments if isinstance(value, Tensor)]

    def replaced(self, weight: Tensor, bias: Tensor | None, tensors: list[Tensor]) -> Head:
        """Return the head with other tensors, ``tensors`` in the order of ``tensors()``."""
        others = iter(tensors)
        steps = tuple(
            (function, tuple(next(others) if isinstance(value, Tensor) else value for value in arguments), keywords)
            for function, arguments, keywords in self.steps
        )
        return Head(weight, bias, steps)


@dataclass(frozen=True)
class _Settings:
    head: Head
    ignore_index: int
    label_smoothing: float
    rows: int
    dtype: torch.dtype
    is_differentiable: bool


def chunk_rows(vocab_size: int, device: torch.device) -> int:
    """Return the rows of a chunk on ``device``."""
    limit = CHUNK_BYTES if device.type == "cpu" else GPU_CHUNK_BYTES
    return max(1, limit // (4 * vocab_size))


def chunked_cross_entropy(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "sum",
    label_smoothing: float = 0.0,
    rows: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return ``F.cross_entropy(head.logits(hidden).float(), labels, ...)`` and the most likely classes.

    Under autocast the matrix products are in its format; sums are float32.

    Args:
        hidden: (N, D) float.
        head: Computes (N, V) logits.
        labels: (N,) int64.
        ignore_index: Label that is ignored.
        reduction: ``sum`` or ``mean``.
        label_smoothing: Share of the target probability spread over all classes.
        rows: Rows of a chunk; ``chunk_rows`` by default.

    Returns:
        The loss, scalar, at least float32, differentiable once where gradients are on; (N,) int64 classes where they
        are off, else None.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    rows = rows or chunk_rows(head.weight.size(0), hidden.device)
    settings = _Settings(head, ignore_index, label_smoothing, rows, dtype, torch.is_grad_enabled())
    apply: Callable[..., tuple[Tensor, Tensor | None]] = _ChunkedCrossEntropy.apply
    total, likeliest = apply(settings, labels, hidden, head.weight, head.bias, *head.tensors())
    if reduction == "mean":
        total = total / (labels != ignore_index).sum()
    return total, likeliest


def chunked_argmax(hidden: Tensor, head: Head) -> Tensor:
    """Return the most likely class of each row of ``hidden`` (N, D): (N,) int64."""
    with torch.no_grad():
        rows = chunk_rows(head.weight.size(0), hidden.device)
        return torch.cat([head.logits(part).argmax(-1) for part in hidden.split(rows)])


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: _Settings, labels: Tensor, *tensors: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``tensors``: hidden, weight, bias, those of the steps."""
        hidden = tensors[0]
        assert hidden is not None
        is_needed = [settings.is_differentiable and needed for needed in ctx.needs_input_grad[2:]]
        chunks = _Chunks(settings, list(tensors), is_needed)
        single = torch.promote_types(settings.dtype, torch.float32)
        total = torch.zeros((), dtype=single, device=hidden.device)
        likeliest = torch.empty_like(labels)
        for start in range(0, hidden.size(0), settings.rows):
            where = slice(start, start + settings.rows)
            loss, classes = chunks.add(where, labels[where])
            total += loss
            if classes is not None:
                likeliest[where] = classes
        ctx.save_for_backward(*chunks.gradients)
        ctx.divisor = chunks.scale
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in tensors]
        ctx.is_used = False
        ctx.mark_non_differentiable(likeliest)
        return total, None if settings.is_differentiable else likeliest

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients in place: a copy of the weight's would cost as much memory as the weight."""
        if ctx.is_used:
            raise RuntimeError("The chunked loss keeps its gradients for one backward pass only.")
        ctx.is_used = True
        factor = grad_outputs[0] / ctx.divisor
        scaled = [
            None if gradient is None else gradient.mul_(factor).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (None, None, *scaled)


class _Chunks:
    """Accumulates the gradients of chunks, in the order hidden, weight, bias, tensors of the steps."""

    def __init__(self, settings: _Settings, tensors: list[Tensor | None], is_needed: list[bool]) -> None:
        self.settings, self.is_needed = settings, is_needed
        hidden, weight, bias, *others = tensors
        assert hidden is not None
        assert weight is not None
        self.gradients = [
            torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
            if tensor is not None and needed
            else None
            for tensor, needed in zip(tensors, is_needed, strict=True)
        ]
        self._hidden = hidden.detach()
        self._weight = weight.detach().to(settings.dtype)
        self._bias = None if bias is None else bias.detach().to(settings.dtype)
        self._others = [tensor.detach() for tensor in others if tensor is not None]
        self.scale = _HALF_SCALE if settings.dtype is torch.float16 else 1.0

    def add(self, where: slice, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the summed loss of the rows ``where`` and, without gradients, their classes; add their gradients."""
        hidden = self._hidden[where].to(self.settings.dtype)
        head = self.settings.head.replaced(self._weight, self._bias, self._others)
        if not any(self.is_needed):
            logits = head.logits(hidden)
            return _loss(_single(logits), labels, self.settings), logits.argmax(-1)
        logits = F.linear(hidden, self._weight, self._bias)
        if not head.steps:
            logits = _single(logits)
            loss = _loss(logits, labels, self.settings)
            self._add(where, hidden, _gradient(logits, labels, self.settings))
            return loss, None
        others = [tensor.clone().requires_grad_() for tensor in self._others]
        with torch.enable_grad():
            logits.requires_grad_()
            finished = head.replaced(self._weight, self._bias, others).finish(logits)
        values = finished.detach().clone().to(torch.promote_types(finished.dtype, torch.float32))
        loss = _loss(values, labels, self.settings)
        above = _gradient(values, labels, self.settings).to(finished.dtype)
        gradient, *more = torch.autograd.grad(finished, [logits, *others], above)
        self._add(where, hidden, gradient, more)
        return loss, None

    def _add(self, where: slice, hidden: Tensor, gradient: Tensor, more: list[Tensor] | None = None) -> None:
        """Add the gradients of the logits, (rows, V), and of the tensors of the steps."""
        if self.scale != 1.0:
            gradient = gradient * self.scale
        products = gradient.to(self.settings.dtype)
        of_hidden, of_weight, of_bias, *of_others = self.gradients
        if of_hidden is not None:
            of_hidden[where] = products @ self._weight
        if of_weight is not None and of_weight.dtype is products.dtype:
            of_weight.addmm_(products.t(), hidden)
        elif of_weight is not None:
            of_weight += products.t() @ hidden
        if of_bias is not None:
            of_bias += gradient.sum(0)
        for of_other, found in zip(of_others, more or [], strict=True):
            if of_other is not None:
                of_other.add_(found, alpha=self.scale)


def _single(logits: Tensor) -> Tensor:
    """Return ``logits`` in at least single precision."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _loss(logits: Tensor, labels: Tensor, settings: _Settings) -> Tensor:
    """Return the summed loss of a chunk; ``logits`` (rows, V) become probabilities in place, without a second copy."""
    smoothing = settings.label_smoothing
    is_target, classes = _targets(labels, settings)
    logits.sub_(logits.amax(1, keepdim=True))
    rows = -(1 - smoothing) * logits.gather(1, classes)[:, 0]
    if smoothing:
        rows -= smoothing * logits.mean(1)
    sums = logits.exp_().sum(1, keepdim=True)
    logits.div_(sums)
    rows += sums[:, 0].log()
    return rows.masked_fill(~is_target, 0.0).sum()


def _gradient(probabilities: Tensor, labels: Tensor, settings: _Settings) -> Tensor:
    """Return the gradient of the summed loss by the logits, in the place of ``probabilities`` (rows, V)."""
    smoothing = settings.label_smoothing
    is_target, classes = _targets(labels, settings)
    probabilities.scatter_add_(1, classes, torch.full_like(probabilities[:, :1], smoothing - 1.0).expand_as(classes))
    if smoothing:
        probabilities.sub_(smoothing / probabilities.size(1))
    return probabilities.masked_fill_(~is_target[:, None], 0.0)


def _targets(labels: Tensor, settings: _Settings) -> tuple[Tensor, Tensor]:
    is_target = labels != settings.ignore_index
    return is_target, labels.where(is_target, 0)[:, None]
