"""Find the logits in what a model returns: a tensor, a tuple, a mapping or an object with attributes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["describe_output", "find_logits", "find_loss"]

LOGITS_NAMES = ("logits", "prediction_logits", "lm_logits", "prediction_scores", "scores", "output", "outputs", "y")


def find_logits(
    output: Any, batch: int, length: int, sizes: tuple[int | None, ...]
) -> tuple[str, int | str | None, Tensor] | None:
    """Return form, key and tensor of the logits; None if nothing looks like logits.

    A tensor called logits comes first, then one whose last dimension is one of ``sizes``, then the first.

    Args:
        output: What the model returned.
        batch: Number of sequences B of the call.
        length: Number of positions whose logits are expected.
        sizes: Likely last dimensions (vocabulary, number of classes), best first.
    """
    if isinstance(output, Tensor):
        return ("tensor", None, output) if output.dim() in (2, 3) and output.is_floating_point() else None
    form, parts = _parts(output)
    found = [
        (key, part)
        for key, part in parts
        if isinstance(part, Tensor)
        and part.is_floating_point()
        and part.dim() in (2, 3)
        and part.shape[0] == batch
        and (part.dim() == 2 or part.shape[1] in (length, 1))
    ]
    if not found:
        return None

    def rank(item: tuple[int | str, Tensor]) -> tuple[bool, int, bool]:
        key, part = item
        size = sizes.index(part.shape[-1]) if part.shape[-1] in sizes else len(sizes)
        return not (isinstance(key, str) and key.endswith(LOGITS_NAMES)), size, part.dim() != 3

    key, part = min(found, key=rank)
    return form, key, part


def find_loss(output: Any) -> Tensor | None:
    """Return the loss in what the model returned: the part called loss, or the only single number."""
    if isinstance(output, Tensor):
        return output if output.dim() == 0 else None
    numbers = [(key, part) for key, part in _parts(output)[1] if isinstance(part, Tensor) and part.numel() == 1]
    named = [part for key, part in numbers if isinstance(key, str) and "loss" in key]
    unnamed = [part for key, part in numbers if isinstance(key, int) and part.dim() <= 1]
    return next(iter(named + unnamed), None)


def describe_output(output: Any) -> str:
    """Describe for a message what the model returned: ``a tuple of Tensor (2, 7, 32), None``."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {str(output.dtype).removeprefix('torch.')}"
    parts = list(_parts(output)[1])
    shown = ", ".join(
        (f"{key}: " if isinstance(key, str) else "")
        + (f"tensor {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__)
        for key, part in parts[:5]
    )
    return f"{type(output).__name__} with {shown}" if parts else f"{type(output).__name__}"


def _parts(output: Any) -> tuple[str, list[tuple[int | str, Any]]]:
    """Form of the output and its (key, value) pairs."""
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return "attribute", list(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return "tuple", list(enumerate(output))
    if isinstance(output, Mapping):
        # transformers' ModelOutput is a mapping too; its keys are attributes, and None values are left out.
        return "mapping" if type(output) is dict else "attribute", list(output.items())
    if dataclasses.is_dataclass(output):
        names: Iterator[str] = (field.name for field in dataclasses.fields(output))
        return "attribute", [(name, getattr(output, name)) for name in names]
    attributes = getattr(output, "__dict__", {})
    return "attribute", list(attributes.items())


def is_finite(tensor: Tensor) -> bool:
    """Whether every number in ``tensor`` is finite."""
    return bool(torch.isfinite(tensor).all())
