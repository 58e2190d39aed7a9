"""Check that logits and gradients are finite at the edges: one token, the longest text, nearly all padding."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.numerics.remedies import IN_FLOAT32, remedy
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import (
    Inputs,
    ModelUnderTest,
    declared_length,
    generic_weights,
)
from transformer_foundry.core.checks.probing.reference.shadow import Shadow, Step, shadow_run
from transformer_foundry.core.checks.probing.reference.training_pass import (
    gradients_of,
    has_own_loss,
    training_pass,
)
from transformer_foundry.core.models.adapter import Adapter

__all__ = ["check_edge_inputs", "check_edges_in_half"]

# Numbers of the logits of one batch.
LARGEST_BATCH = 2_000_000
LENGTH = 24
LARGEST_HALF_MODEL = 50_000_000
# Operations that give NaN or infinity where a small number that keeps them from zero rounds to zero.
DIVISIONS = frozenset({"div", "div_", "reciprocal", "rsqrt", "rsqrt_", "log", "log_", "log2", "pow"})
SMALLEST_HALF = 6e-8


@dataclass(frozen=True)
class _Edge:
    """A batch, what is special about it, the (B, S) positions that have a label (None: all), and how rare it is.

    ``has_own_loss`` adds the loss that the model computes itself.
    """

    what: str
    inputs: Inputs
    labeled: Tensor | None = None
    is_rare: bool = False
    has_own_loss: bool = False


def check_edge_inputs(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that one token, the longest text, repeated tokens and much padding give finite logits and gradients."""
    own_loss = has_own_loss(subject)
    for edge in _edges(subject):
        if own_loss and edge.inputs.target.shape[1] > 2:  # One token has no next one: its loss is a mean of nothing.
            edge = replace(edge, has_own_loss=True)
        if _is_finite(subject, edge):
            with generic_weights(subject.model):
                if _is_finite(subject, edge):
                    continue
                yield _not_finite(subject, edge)
        else:
            yield _not_finite(subject, edge)
        return


def check_edges_in_half(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that rows of zeros, padding and texts of one token give no NaN in float16 where float32 gives none."""
    if subject.parameter_count > LARGEST_HALF_MODEL:
        return
    try:
        half = replace(subject, adapter=Adapter(copy.deepcopy(subject.model).half(), subject.contract))
    except (RuntimeError, TypeError):
        return
    half.model.eval()
    edges = [edge for edge in _edges(subject) if edge.inputs.target.shape[1] <= LENGTH]
    zero = _Edge("texts whose embeddings are zero, as those of padding often are,", subject.inputs(batch=1))
    for edge in (*edges, zero):
        with _no_embeddings(subject.model) if edge is zero else contextlib.nullcontext():
            exact = _logits_of(subject, edge)
        with _no_embeddings(half.model) if edge is zero else contextlib.nullcontext():
            found = _logits_of(half, edge)
            if exact is None or found is None or not bool(exact.isfinite().all()) or bool(found.isfinite().all()):
                continue
            finding = _lost_epsilon(subject, half, edge)
        if finding is not None:
            yield finding
            return


@contextmanager
def _no_embeddings(model: nn.Module) -> Iterator[None]:
    """Make the results of all tables zero in this context."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    handles = [table.register_forward_hook(lambda _table, _ids, output: output * 0) for table in tables]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _logits_of(subject: ModelUnderTest, edge: _Edge) -> Tensor | None:
    try:
        return subject.call(edge.inputs)
    except Exception:  # Another check reports what fails in float16; the model's code may raise anything.
        return None


@torch.no_grad()
def _lost_epsilon(subject: ModelUnderTest, half: ModelUnderTest, edge: _Edge) -> Finding | None:
    """Return the division by zero behind NaN in float16; None if NaN has another cause, as a mask of -infinity."""
    with shadow_run(half.model, subject.source, None) as shadow:
        _logits_of(half, edge)
    broken = (step for step in shadow.steps if step.overflows or step.is_singular)
    step = next((step for step in broken if step.name in DIVISIONS), None)
    # F.normalize has such a number of its own: 1e-12, which its caller did not choose.
    if step is None or "normalize(" in subject.source.text(step.line):
        return None
    return finding_at(
        "precision",
        "warning",
        f"In float16 (model.half()) the logits of {edge.what} are NaN, in float32 they are not. It begins with "
        f"{step.name}{subject.source.quoted(step.line)}: a number that should keep it away from zero is below "
        f"{SMALLEST_HALF:.0e}, the smallest of float16, so it rounds to zero and 0 / 0 is NaN.",
        subject.locator.at(step.line, step.module),
        f"use eps=1e-6 or larger, or {IN_FLOAT32}",
    )


def _edges(subject: ModelUnderTest) -> Iterator[_Edge]:
    longest = max(1, min(declared_length(subject), LARGEST_BATCH // max(1, subject.contract.output_size)))
    length = min(LENGTH, longest)
    yield _Edge("texts of one token", subject.inputs(batch=2, length=1))
    yield _Edge(f"a text of {longest} tokens, the longest", subject.inputs(batch=1, length=longest))
    ordinary = subject.inputs(batch=3, length=length)
    repeated = ordinary.target.clone()
    repeated[:] = repeated[:, :1]
    yield _Edge("texts of one token repeated", ordinary.with_target(repeated))
    size = subject.contract.vocab_size
    ends = torch.tensor([0, size - 1]).repeat(length)[:length]
    yield _Edge(
        "texts of the first and the last token id", Inputs(ends[None], None, ordinary.rows(slice(1)).decoder_ids)
    )
    if length < 4:
        return
    for what, counts in (
        ("texts with padding", (length, length // 2, 1)),
        ("a batch with a text of padding alone", (length, length // 2, 0)),
    ):
        yield _padded(subject, ordinary, what, counts)


def _padded(subject: ModelUnderTest, inputs: Inputs, what: str, counts: tuple[int, ...]) -> _Edge:
    """Return the batch with the first ``counts`` tokens of each text real, and the real padding id behind them."""
    filler = subject.contract.pad_token_id or 0
    ids = inputs.ids.clone()
    mask = torch.ones_like(ids)
    for row, count in enumerate(counts):
        ids[row, min(count, ids.shape[1]) :] = filler
        mask[row, min(count, ids.shape[1]) :] = 0
    labeled = mask.bool()
    if inputs.decoder_ids is not None:
        labeled = torch.ones_like(inputs.decoder_ids, dtype=torch.bool)
        labeled[counts.index(min(counts))] = min(counts) > 0
    given = mask if subject.contract.mask_argument is not None else None
    return _Edge(what, Inputs(ids, given, inputs.decoder_ids), labeled, is_rare=min(counts) == 0)


def _is_finite(subject: ModelUnderTest, edge: _Edge) -> bool:
    """Return whether the loss and all gradients are finite; a model that fails on a size is reported elsewhere."""
    try:
        loss, gradients = _gradients(subject, edge)
    except (RuntimeError, IndexError, ValueError, AssertionError):
        return True
    return bool(loss.isfinite()) and all(bool(item.isfinite().all()) for item in gradients)


def _gradients(subject: ModelUnderTest, edge: _Edge) -> tuple[Tensor, list[Tensor]]:
    """Return the loss as training computes it, and the gradients: positions without a label count nothing."""
    with torch.enable_grad():
        loss = training_pass(subject, edge.inputs, labeled=edge.labeled, with_own_loss=edge.has_own_loss).loss
        return loss.detach(), gradients_of(subject, loss)


def _not_finite(subject: ModelUnderTest, edge: _Edge) -> Finding:
    with shadow_run(subject.model, subject.source, None) as shadow:
        loss, _ = _gradients(subject, edge)
    step = _origin(shadow)
    what = "Some gradients are NaN or infinite" if loss.isfinite() else "The loss is NaN or infinite"
    where = subject.locator.at(step.line, step.module) if step is not None else subject.locator.forward()
    origin = ""
    if step is not None:
        origin = f" The first operation that returns it is {step.name}{' in the backward pass' * step.is_backward}"
        origin += f"{subject.source.quoted(step.line)}."
    return finding_at(
        "finite",
        "warning" if edge.is_rare else "error",
        f"{what} for {edge.what}.{origin} One such batch makes every weight NaN.",
        where,
        remedy(step.name if step is not None else ""),
    )


def _origin(shadow: Shadow) -> Step | None:
    broken = [step for step in shadow.steps if step.overflows or step.is_singular]
    return next(iter(broken), None)
