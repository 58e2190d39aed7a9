"""The model runs at every size that its configuration promises, and gives one row of logits per position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_foundry.core.checks.explanations import describe, explain
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.subject import Inputs, Subject
from transformer_foundry.core.exports import hints

__all__ = ["check_sizes"]

# Longer sequences are not tried in full: a position table that is too short shows itself by its rows as well.
LONGEST = 4096
MEMORY_LIMIT_ELEMENTS = 2**27


@dataclass(frozen=True)
class _Trial:
    name: str
    inputs: Inputs
    shape: tuple[int, ...]
    remedy: str


def check_sizes(subject: Subject) -> Iterator[Finding]:
    """Batches of 1, 2, 3; lengths of 1, 2, an odd one, the maximum; the first and the last token id."""
    seen: set[str] = set()
    for trial in _trials(subject):
        finding = _run(subject, trial)
        if finding is not None and finding.message.split(":")[-1] not in seen:
            seen.add(finding.message.split(":")[-1])
            yield finding


def _trials(subject: Subject) -> Iterator[_Trial]:
    batch_fix = "take the batch size from the input (B = x.shape[0]) instead of fixing it in the code."
    length_fix = "take the length from the input (T = x.shape[1]) instead of fixing it in the code."
    limit = _promised_length(subject)
    for batch in (1, 2, 3):
        yield _trial(subject, f"a batch of {batch}", batch, subject.length, batch_fix)
    for length in (1, 2, 7, 2):
        if length <= limit:
            yield _trial(subject, f"a sequence of {length}", 2, length, length_fix)
    longest = min(limit, LONGEST, max(subject.length, MEMORY_LIMIT_ELEMENTS // max(1, subject.contract.output_size)))
    if longest > subject.length:
        fix = (
            f"let its tables of positions and masks have {limit} rows, as many as the configuration promises "
            "(max_seq_len), or promise less; do not cut the input."
        )
        yield _trial(subject, f"the longest promised sequence of {longest}", 1, longest, fix)
    vocabulary = _promised_vocabulary(subject)
    for token in (0, vocabulary - 1):
        inputs = subject.inputs(batch=1)
        ids = inputs.ids.clone()
        ids[:, -1] = token
        if subject.kind == "encoder-decoder":
            continue
        fix = f"give the embedding as many rows as config.json promises (vocab_size: {vocabulary})."
        yield _Trial(f"token id {token}", Inputs(ids), _shape(subject, inputs), fix)


def _trial(subject: Subject, name: str, batch: int, length: int, remedy: str) -> _Trial:
    inputs = subject.inputs(batch=batch, length=length)
    return _Trial(f"{name}{' tokens' if 'sequence' in name else ''}", inputs, _shape(subject, inputs), remedy)


def _shape(subject: Subject, inputs: Inputs) -> tuple[int, ...]:
    size = subject.contract.output_size
    return (*inputs.target.shape, size) if subject.labels_positions else (len(inputs.target), size)


def _run(subject: Subject, trial: _Trial) -> Finding | None:
    try:
        logits = subject.logits(trial.inputs)
    # The model's code is somebody else's and may raise anything; what it raises is the finding.
    except Exception as err:
        return _failure(subject, trial, err)
    if tuple(logits.shape) == trial.shape:
        return None
    return Finding(
        "sizes",
        "error",
        f"With {trial.name} the logits have the wrong shape: found {tuple(logits.shape)}, expected {trial.shape}."
        f"{_shape_hint(logits, trial.shape)}",
        str(_shape_place(subject, trial, logits)),
        trial.remedy[:1].upper() + trial.remedy[1:],
    )


def _failure(subject: Subject, trial: _Trial, error: Exception) -> Finding:
    from transformer_foundry.core.checks.explanations import root_cause

    cause = root_cause(error)
    place = subject.places.at(subject.source.raised_at(error))
    return Finding(
        "sizes",
        "error",
        f"The model fails with {trial.name}, though it runs with others. {explain(cause).meaning} The error: "
        f"{describe(cause)}",
        str(place),
        place.lead(trial.remedy),
    )


def _shape_hint(logits: Tensor, expected: tuple[int, ...]) -> str:
    if logits.ndim == 3 and len(expected) == 3 and logits.shape[1] < expected[1]:
        return " The end of the input is dropped: those positions get no prediction, and labels no longer match."
    if logits.ndim < len(expected):
        return " An axis of size 1 was squeezed away."
    return ""


def _shape_place(subject: Subject, trial: _Trial, logits: Tensor) -> object:
    """Return the line that first shortens the input, else ``forward``."""
    from transformer_foundry.core.checks.tracing import run_traced

    length = trial.inputs.target.shape[-1]
    if logits.ndim == 3 and logits.shape[1] < length:
        record = run_traced(subject.model, subject.source, lambda: subject.logits(trial.inputs))
        for step in record.operations:
            if step.name in ("__getitem__", "narrow", "split", "chunk", "squeeze") and step.line is not None:
                axes = step.inputs[0].shape if step.inputs else torch.Size()
                if len(axes) > 1 and axes[1] == length and step.output.ndim > 1 and step.output.shape[1] < length:
                    return subject.places.at(step.line, step.module or None)
    return subject.places.forward()


def _promised_length(subject: Subject) -> int:
    stated = hints.max_length_hint(subject.config)
    known = subject.contract.max_length
    return stated or known or 64


def _promised_vocabulary(subject: Subject) -> int:
    return hints.vocabulary_hint(subject.config) or subject.contract.vocab_size
