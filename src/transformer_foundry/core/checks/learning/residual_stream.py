"""Check that every block adds to the residual stream: with its weights set to zero the input still gets through."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.attention.weights import attention_records
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import replace_token
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.sequence_axis import by_position
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.models.side_effects import restore_weights

__all__ = ["check_residual_stream"]

# Changes of the logits below this share of their size count as none.
NO_CHANGE = 1e-6
ADDING = ("add", "__add__", "__radd__", "add_", "__iadd__")


def check_residual_stream(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a residual connection bypasses every attention and feed-forward, and is added once."""
    yield from _doubled(subject)
    branches = _branches(subject)
    with generic_weights(subject.model):
        if not branches or _gets_through(subject, [weight for group in branches.values() for weight in group]):
            return
        blocking = [path for path, weights in branches.items() if not _gets_through(subject, weights)]
    if not blocking:
        return
    call = next((call for call in subject.trace.modules if call.module == blocking[0]), None)
    shown = ", ".join(blocking[:4]) + (f" and {len(blocking) - 4} more" if len(blocking) > 4 else "")
    yield finding_at(
        "residual",
        "warning",
        f"No residual connection bypasses {shown}: with its weights set to zero, the output does not depend on the "
        "tokens. Signal and gradient must pass through every block, and shrink with each.",
        subject.locator.module(blocking[0], _forward_line(subject, blocking[0]) or (call.line if call else None)),
        "add the block's input to its result: x = x + block(norm(x)).",
    )


def _doubled(subject: ModelUnderTest) -> Iterator[Finding]:
    """Find a residual connection that is added twice."""
    for call in subject.trace.operations:
        if call.name not in ADDING or len(call.inputs) != 2 or by_position(call.output, subject.length) is None:
            continue
        left, right = call.inputs
        if left.data_ptr() == right.data_ptr() and left.shape == right.shape and left.stride() == right.stride():
            yield finding_at(
                "residual",
                "warning",
                "A tensor is added to itself: the residual connection is added twice. The stream doubles with every "
                "such block, so the results of attention and feed-forward have less and less weight.",
                subject.locator.at(call.line, call.module),
                "add the block's result to its input once: x = x + block(norm(x)).",
            )
            return


def _branches(subject: ModelUnderTest) -> dict[str, list[Tensor]]:
    """Return path -> weights to set to zero, of modules that attend and of the second layer of each feed-forward."""
    width = _width(subject)
    branches: dict[str, list[Tensor]] = {}
    for record in attention_records(subject.trace, subject.lengths):
        module = subject.locator.modules.get(record.module)
        if module is not None and record.module and not _holds_an_end(subject, module):
            branches[record.module] = [
                parameter
                for path, child in module.named_modules()
                for name, parameter in child.named_parameters(recurse=False)
                if not isinstance(child, nn.Embedding) and (parameter.ndim >= 2 or name.endswith("bias"))
                if not _is_norm(child)
            ]
    for path, module in subject.model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == width and _contracts(subject, path, module):
            branches.setdefault(path, list(module.parameters()))
    for path, module in subject.model.named_modules():
        if _is_repeated_mixer(subject, path, module) and branches:
            branches.setdefault(path, list(module.parameters()))
    return branches


def _is_repeated_mixer(subject: ModelUnderTest, path: str, module: nn.Module) -> bool:
    """Return whether a module is a convolution or recurrence in a repeated block, in place of attention."""
    if not isinstance(module, nn.Conv1d | nn.RNNBase) or not path:
        return False
    parts = path.split(".")
    lists = (".".join(parts[:at]) for at, part in enumerate(parts) if part.isdigit())
    return any(isinstance(subject.locator.modules.get(name), nn.ModuleList) for name in lists)


def _holds_an_end(subject: ModelUnderTest, module: nn.Module) -> bool:
    """Return whether a module contains the embedding or the head, whose weights must not be zero."""
    ends = {subject.contract.vocab_size, subject.contract.output_size}
    return any(isinstance(child, nn.Embedding) and child.num_embeddings in ends for child in module.modules()) or any(
        ends & set(parameter.shape) for parameter in module.parameters() if parameter.ndim == 2
    )


def _contracts(subject: ModelUnderTest, path: str, module: nn.Linear) -> bool:
    """Return whether a layer is the second of a feed-forward: it narrows what a sibling widened before."""
    above = ".".join(path.split(".")[:-2])
    beside = subject.locator.modules.get(above)
    if module.in_features <= module.out_features or beside is None:
        return False
    wide = (module.in_features, 2 * module.in_features)
    widening = {
        f"{above}.{name}".lstrip(".")
        for name, other in beside.named_modules()
        if isinstance(other, nn.Linear) and other.in_features == module.out_features and other.out_features in wide
    }
    ran = [call.module for call in subject.trace.modules]
    return bool(widening.intersection(ran[: ran.index(path)] if path in ran else widening))


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _width(subject: ModelUnderTest) -> int:
    """Return the width of the residual stream: the most common D of results of shape (1, T, D)."""
    length = subject.length
    widths = [
        call.output.shape[-1]
        for call in subject.trace.modules
        if call.output.ndim == 3 and call.output.shape[1] == length and _is_norm_name(call.name)
    ]
    streams = [call.output.shape[-1] for call in subject.trace.modules if call.output.ndim == 3]
    pool = widths or streams
    return max(set(pool), key=pool.count) if pool else 0


def _is_norm_name(name: str) -> bool:
    return "norm" in name.lower()


def _gets_through(subject: ModelUnderTest, weights: list[Tensor]) -> bool:
    with restore_weights(weights):
        with torch.no_grad():
            for weight in weights:
                weight.zero_()
        inputs = subject.inputs()
        other = inputs.with_target(replace_token(subject, inputs.target, inputs.target.shape[1] - 1))
        base, moved = subject.logits(inputs), subject.logits(other)
        if not subject.labels_positions:
            first = inputs.with_target(replace_token(subject, inputs.target, 0))
            moved = torch.where(
                (subject.logits(first) - base).abs() > (moved - base).abs(), subject.logits(first), moved
            )
    return float((moved - base).abs().max()) > NO_CHANGE * max(1.0, float(base.abs().max()))


def _forward_line(subject: ModelUnderTest, path: str) -> SourceLine | None:
    """Return the line of ``forward`` of the block, which lacks the addition."""
    module = subject.locator.modules.get(path)
    return subject.source.class_line(type(module), "forward") if module is not None else None
