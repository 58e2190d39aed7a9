"""Check that every row of a table of positions is used."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import (
    ModelUnderTest,
    declared_length,
    generic_weights,
    loss_of_random_labels,
)
from transformer_foundry.core.checks.probing.trace import TracedCall

__all__ = ["SHORTEST_TABLE", "check_output_table", "check_position_embeddings", "longest_probe"]

# Tables of positions may have a few extra rows, for padding or an offset.
EXTRA_ROWS = 8
SHORTEST_TABLE = 8
LONGEST = 1024
LARGEST_DEAD_SHARE = 0.1
HEADS = ("linear", "matmul", "__matmul__", "einsum", "addmm")


def check_position_embeddings(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that every row of a position table gets a gradient from a sequence of maximum length."""
    length = longest_probe(subject, LONGEST)
    tables = {
        name: parameter
        for name, parameter in subject.model.named_parameters()
        if parameter.requires_grad and _row_axis(parameter, length) is not None and not _holds_tokens(subject, name)
    }
    if length < SHORTEST_TABLE or not tables or not subject.is_differentiable:
        return
    with generic_weights(subject.model), torch.enable_grad():
        subject.model.zero_grad(set_to_none=True)
        loss = loss_of_random_labels(subject, subject.inputs(batch=1, length=length, source=length))
        gradients = torch.autograd.grad(loss, list(tables.values()), allow_unused=True) if loss.requires_grad else ()
    for (name, parameter), gradient in zip(tables.items(), gradients, strict=False):
        if gradient is None or not bool((gradient != 0).any()):
            continue  # The whole table is unused: the check of unused parameters reports it.
        axis = _row_axis(parameter, length)
        assert axis is not None
        live = (gradient != 0).movedim(axis, 0).reshape(gradient.shape[axis], -1).any(dim=1)
        used = int(live.sum())
        if used < (1 - LARGEST_DEAD_SHARE) * length - 1:
            yield _dead_rows(subject, name, used, len(live), length)


def check_output_table(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a table that the output layer shares is that of the tokens, not one of positions or segments."""
    calls = subject.trace.operations
    head = next((call for call in reversed(calls) if call.name in HEADS and len(call.inputs) >= 2), None)
    if head is None or head.output.ndim != 3 or head.output.shape[-1] < subject.contract.output_size:
        return
    with generic_weights(subject.model):
        others = subject.traced(subject.inputs(seed=3)).operations
    weights = {_storage(item) for item in head.inputs if item.ndim == 2}
    indices = [(_ids_of(call, weights), _ids_of(other, weights)) for call, other in zip(calls, others, strict=False)]
    found = [(one, other) for one, other in indices if one is not None and other is not None]
    if not found or any(not torch.equal(one, other) for one, other in found):
        return
    name = next(name for name, item in subject.model.named_parameters() if _storage(item) in weights)
    yield finding_at(
        "output table",
        "error",
        f"The output layer has the weights of {name}, a table that token ids never index: other tokens look up the "
        "same rows of it. The score of token v then compares with the vector of position v, so tokens and positions "
        "pull one table in different directions.",
        subject.locator.at(head.line, head.module),
        "tie the output layer to the table of the tokens: self.lm_head.weight = self.token_embedding.weight.",
    )


def _ids_of(call: TracedCall, weights: set[int]) -> Tensor | None:
    """Return the indices of a look-up in a table whose storage is in ``weights``."""
    if call.name != "embedding" or not any(_storage(item) in weights for item in call.inputs[1:]):
        return None
    return call.inputs[0]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def longest_probe(subject: ModelUnderTest, limit: int) -> int:
    """Return the length of the longest sequence that the model accepts, at most ``limit``."""
    return min(declared_length(subject), subject.contract.max_length or limit, limit)


def _row_axis(parameter: Tensor, length: int) -> int | None:
    """Return the axis along which a parameter has one row per position."""
    if parameter.ndim < 2:
        return None
    axes = [axis for axis, size in enumerate(parameter.shape[:-1]) if length <= size <= length + EXTRA_ROWS]
    return axes[0] if len(axes) == 1 and _is_table(parameter, axes[0]) else None


def _is_table(parameter: Tensor, axis: int) -> bool:
    return all(size == 1 for index, size in enumerate(parameter.shape[:-1]) if index != axis)


def _holds_tokens(subject: ModelUnderTest, name: str) -> bool:
    """Return whether a parameter is not a table of positions but a layer's weights or a table of tokens."""
    owner, _, _attribute = name.rpartition(".")
    module = subject.locator.modules.get(owner)
    if isinstance(module, nn.Embedding):
        return _looked_up_by_token(subject, owner)
    return not (module is not None and not isinstance(module, nn.Linear) and _is_plain_table(subject, name))


def _is_plain_table(subject: ModelUnderTest, name: str) -> bool:
    """Return whether a parameter is added to the residual stream: sliced by rows, never multiplied as a matrix."""
    parameter = dict(subject.model.named_parameters())[name]
    pointer = parameter.data_ptr()
    uses = {
        call.name for call in subject.trace.operations if any(tensor.data_ptr() == pointer for tensor in call.inputs)
    }
    return bool(
        uses & {"__getitem__", "add", "__add__", "__radd__", "narrow", "embedding", "index_select", "expand"}
    ) and not (uses & {"linear", "matmul", "__matmul__", "einsum", "bmm"})


def _looked_up_by_token(subject: ModelUnderTest, path: str) -> bool:
    inputs = subject.inputs()
    for call in subject.trace.modules:
        if call.module == path and call.inputs:
            ids = call.inputs[0].flatten()
            return any(torch.equal(ids, given.flatten()) for given in (inputs.ids, inputs.target))
    return True


def _reads_texts_apart(subject: ModelUnderTest, name: str) -> bool:
    """Return whether one call looks positions up for several texts: a row is split, and each text is shorter."""
    path = name.rpartition(".")[0]
    indices = [call.inputs[0] for call in subject.trace.modules if call.module == path and call.inputs]
    return any(item.shape != indices[0].shape or not torch.equal(item, indices[0]) for item in indices[1:])


def _dead_rows(subject: ModelUnderTest, name: str, used: int, rows: int, length: int) -> Finding:
    owner, _, attribute = name.rpartition(".")
    is_module = isinstance(subject.locator.modules.get(owner), nn.Embedding)
    are_apart = _reads_texts_apart(subject, name)
    cause = (
        "A row holds several texts, which are read apart, each from position 0"
        if are_apart
        else "All position ids are the same, so the model cannot distinguish orders of tokens"
        if used == 1
        else "Position ids repeat or are clamped, so distant positions get the same embedding"
    )
    return finding_at(
        "dead rows",
        "info" if are_apart else "warning",
        f"Only {used} of the {rows} rows of the position table {name} are used by a sequence of {length} tokens; the "
        f"others never get a gradient. {cause}.",
        _lookup_place(subject, owner) if is_module else subject.locator.attribute(owner, attribute),
        "look the table up with torch.arange(T), one row per position.",
    )


def _lookup_place(subject: ModelUnderTest, path: str) -> Location:
    call = next((call for call in subject.trace.modules if call.module == path), None)
    return subject.locator.module(path, call.line if call is not None else None)
