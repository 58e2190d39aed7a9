"""Find the logits in what a model returns: a tensor, a tuple, a mapping or an object with attributes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["Logits", "describe_output", "find_logits", "find_loss", "logits_of"]

LOGITS_NAMES = ("logits", "prediction_logits", "lm_logits", "prediction_scores", "scores", "output", "outputs", "y")


@dataclasses.dataclass(frozen=True)
class Logits:
    """The logits, and where in the output they are.

    Attributes:
        form: ``tensor``, ``tuple``, ``mapping`` or ``attribute``.
        key: Index, key or attribute; None if the output is the tensor itself.
        tensor: (B, T, V) or (B, C), floating point.
    """

    form: str
    key: int | str | None
    tensor: Tensor


def find_logits(output: Any, batch: int, length: int, sizes: tuple[int | None, ...]) -> Logits | None:
    """Return the logits in ``output``, or None if nothing in it can be logits.

    A part named logits comes first, then one whose last dimension is in ``sizes``, then one for each position.

    Args:
        output: Output of the model.
        batch: Number of sequences B of the call.
        length: Number of positions T whose logits are expected.
        sizes: Likely last dimensions (vocabulary, number of classes), best first.
    """
    form, parts = ("tensor", [(None, output)]) if isinstance(output, Tensor) else _parts(output)
    found = [Logits(form, key, part) for key, part in parts if _may_be_logits(part, batch, length)]

    def rank(item: Logits) -> tuple[bool, int, bool]:
        named = isinstance(item.key, str) and item.key.endswith(LOGITS_NAMES)
        size = item.tensor.shape[-1]
        return not named, sizes.index(size) if size in sizes else len(sizes), item.tensor.dim() != 3

    return min(found, key=rank, default=None)


def _may_be_logits(part: Any, batch: int, length: int) -> bool:
    if not isinstance(part, Tensor) or not part.is_floating_point() or part.dim() not in (2, 3):
        return False
    return part.shape[0] == batch and (part.dim() == 2 or part.shape[1] in (length, 1))


def find_loss(output: Any) -> Tensor | None:
    """Return the loss in the output of the model: the part named loss, or the only scalar."""
    if isinstance(output, Tensor):
        return output if output.dim() == 0 else None
    numbers = [(key, part) for key, part in _parts(output)[1] if isinstance(part, Tensor) and part.numel() == 1]
    named = [part for key, part in numbers if isinstance(key, str) and "loss" in key]
    unnamed = [part for key, part in numbers if isinstance(key, int) and part.dim() <= 1]
    return next(iter(named + unnamed), None)


def logits_of(output: Any) -> Tensor:
    """Return the part of ``output`` called ``logits``, otherwise its first tensor; a tracer can follow this.

    Raises:
        TypeError: If there is no tensor.
    """
    parts = [("logits", output)] if isinstance(output, Tensor) else _parts(output)[1]
    tensors = {key: part for key, part in parts if isinstance(part, Tensor)}
    if not tensors:
        raise TypeError(f"forward returned {describe_output(output)}, which holds no tensor of logits")
    return tensors.get("logits", next(iter(tensors.values())))


def describe_output(output: Any) -> str:
    """Describe the output of the model for a message, for example ``dict with logits: tensor (2, 7, 32)``."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {str(output.dtype).removeprefix('torch.')}"
    parts = list(_parts(output)[1])
    shown = ", ".join(
        (f"{key}: " if isinstance(key, str) else "")
        + (f"tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__)
        for key, part in parts[:5]
    )
    return f"{type(output).__name__} with {shown}" if parts else f"{type(output).__name__}"


def _parts(output: Any) -> tuple[str, list[tuple[int | str | None, Any]]]:
    """Return the form of the output and its (key, value) pairs."""
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return "attribute", list(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return "tuple", list(enumerate(output))
    if isinstance(output, Mapping):
        # transformers' ModelOutput is a mapping whose keys are attributes.
        has_attributes = all(isinstance(key, str) and hasattr(output, key) for key in output)
        return "attribute" if has_attributes else "mapping", list(output.items())
    if dataclasses.is_dataclass(output):
        return "attribute", [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    return "attribute", list(vars(output).items()) if hasattr(output, "__dict__") else []
