"""Find the logits in what a model returns: a tensor, or tuples, mappings and objects with attributes in each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

__all__ = ["Logits", "describe_output", "find_logits", "find_loss", "find_terms", "float_tensors", "logits_path"]

LOGITS_NAMES = ("scores", "output", "outputs", "y", "pred", "preds", "predictions")
"""Names of logits whose own name does not say it; more specific ones end with ``logits`` or ``scores``."""

# transformers' outputs have tuples of tensors inside; a deeper nesting is not an output.
_MOST_LEVELS = 4


@dataclasses.dataclass(frozen=True)
class Logits:
    """The logits, and where in the output they are.

    Attributes:
        form: ``tensor``, ``tuple``, ``mapping``, ``attribute``, or ``nested`` if they are deeper than that.
        key: Index, key or attribute; None if the output is the tensor itself; for ``nested`` the (form, key) pairs from
            the outside to the inside.
        tensor: (B, T, V) or (B, C), floating point; one number per text, (B,), is given as (B, 1).
    """

    form: str
    key: Any
    tensor: Tensor


def find_logits(output: Any, batch: int, length: int | Collection[int], sizes: Sequence[int | None]) -> Logits | None:
    """Return the logits in ``output``, or None if nothing in it can be logits.

    A part whose last dimension is in ``sizes`` comes first, then one that is named logits, then one for each position;
    of equal ones the outermost, then the first.

    Args:
        output: Output of the model: a tensor, or tuples, mappings and objects in each other that hold it.
        batch: Number of sequences B of the call.
        length: Number of positions T whose logits are expected, or several.
        sizes: Likely last dimensions (vocabulary, number of classes), best first.
    """
    lengths = (length,) if isinstance(length, int) else tuple(length)
    found = [(path, part) for path, part in _tensors(output) if _may_be_logits(part, batch, lengths)]
    if not found:
        found = [(path, part.unsqueeze(-1)) for path, part in _tensors(output) if _is_number_per_text(part, batch)]

    def rank(item: tuple[_Path, Tensor]) -> tuple[int, int, bool, int]:
        path, part = item
        size = part.shape[-1]
        place = sizes.index(size) if size in sizes else len(sizes)
        return place, _name_rank(path[-1][1] if path else None), part.dim() != 3, len(path)

    if not found:
        return None
    path, tensor = min(found, key=rank)
    if not path:
        return Logits("tensor", None, tensor)
    return Logits(*path[0], tensor) if len(path) == 1 else Logits("nested", path, tensor)


def _name_rank(name: int | str | None) -> int:
    """Return 0 for a name of logits, 1 for one that may be, 2 for no name, 3 for the name of something else."""
    if not isinstance(name, str):
        return 2
    if name == "logits":
        return 0
    if name.endswith(("logits", "scores")):
        return 1
    return 2 if name in LOGITS_NAMES else 3


_Path: TypeAlias = tuple[tuple[str, int | str], ...]


def _tensors(output: Any, path: _Path = ()) -> Iterator[tuple[_Path, Tensor]]:
    """Yield the tensors in ``output`` and the (form, key) pairs that lead to each."""
    if isinstance(output, Tensor):
        yield path, output
    elif len(path) < _MOST_LEVELS:
        form, parts = _parts(output)
        for key, part in parts:
            yield from _tensors(part, (*path, (form, key)))


def float_tensors(output: Any) -> list[Tensor]:
    """Return the floating point tensors in the output of a model."""
    return [part for _, part in _tensors(output) if part.is_floating_point()]


def _may_be_logits(part: Tensor, batch: int, lengths: Collection[int]) -> bool:
    if not part.is_floating_point() or part.dim() not in (2, 3):
        return False
    return part.shape[0] == batch and (part.dim() == 2 or part.shape[1] in (*lengths, 1))


def _is_number_per_text(part: Any, batch: int) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point() and part.shape == (batch,) and batch > 1


def find_loss(output: Any) -> Tensor | None:
    """Return the loss in the output of the model: the part named loss, or the only scalar."""
    if isinstance(output, Tensor):
        return output if output.dim() == 0 else None
    numbers = [(key, part) for key, part in _parts(output)[1] if isinstance(part, Tensor) and part.numel() == 1]
    named = [part for key, part in sorted(numbers, key=lambda item: item[0] != "loss") if _names_a_loss(key)]
    unnamed = [part for key, part in numbers if isinstance(key, int) and part.dim() <= 1]
    return next(iter(named + unnamed), None)


def find_terms(output: Any) -> dict[str, Tensor]:
    """Return the terms of a loss that a model returns beside its logits and its whole loss, by name.

    Scalars with a gradient: parts named like ``aux_loss`` and ``z_loss``, or the only unnamed one.
    """
    parts = [] if isinstance(output, Tensor) else _parts(output)[1]
    numbers = {
        key: part
        for key, part in parts
        if isinstance(part, Tensor) and part.numel() == 1 and part.is_floating_point() and part.requires_grad
    }
    named = {str(key): part for key, part in numbers.items() if _names_a_loss(key) and key != "loss"}
    unnamed = {f"output {key}": part for key, part in numbers.items() if isinstance(key, int)}
    return named or (unnamed if len(unnamed) == 1 else {})


def _names_a_loss(key: Any) -> bool:
    return isinstance(key, str) and "loss" in key


def logits_path(module: nn.Module, inputs: Iterable[Tensor], output: Any) -> _Path:
    """Return the (form, key) pairs that lead to the logits of a module without a contract; empty for a tensor.

    Args:
        module: The module; the rows of its embeddings and the outputs of its linear layers are likely vocabularies.
        inputs: The tensors of the call, of which the first is (B, T).
        output: What the call returned.

    Raises:
        TypeError: If there is no tensor.
    """
    given = [tensor for tensor in inputs if tensor.dim() >= 2]
    rows = [table.num_embeddings for table in module.modules() if isinstance(table, nn.Embedding)]
    heads = {layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear)}
    # The largest table is that of the tokens; a head has as many outputs, unless it is a classifier.
    sizes = sorted(rows, key=lambda size: (size not in heads, -size))
    found = None
    if given and not isinstance(output, Tensor):
        found = find_logits(output, given[0].shape[0], {tensor.shape[1] for tensor in given}, sizes)
    if found is not None:
        return found.key if found.form == "nested" else ((found.form, found.key),)
    path = next((path for path, _ in _tensors(output)), None)
    if path is None:
        raise TypeError(f"forward returned {describe_output(output)}, which holds no tensor of logits")
    return path


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


def _parts(output: Any) -> tuple[str, list[tuple[int | str, Any]]]:
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
