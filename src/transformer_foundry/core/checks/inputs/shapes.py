"""Check that the model runs at every size that its configuration declares, with one row of logits per position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, declared_length
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.models.error_meanings import describe, explain, root_cause
from transformer_foundry.core.models.inference import config_hints

__all__ = ["check_shapes"]

# Longer sequences are not run in full; the check of position embeddings finds tables that are too short.
LONGEST = 4096
# Most logits of one forward pass at the longest length (512 MiB of float32).
MOST_LOGITS = 2**27
BATCH_FIX = "take the batch size from the input (B = x.shape[0]) instead of fixing it in the code."
LENGTH_FIX = "take the length from the input (T = x.shape[1]) instead of fixing it in the code."


@dataclass(frozen=True)
class _Trial:
    name: str
    inputs: Inputs
    remedy: str
    is_usual: bool = False


@dataclass(frozen=True)
class _Failure:
    """A trial that raised an exception or returned logits of the wrong shape."""

    trial: _Trial
    line: SourceLine | None
    error: BaseException | None = None
    logits: Tensor | None = None

    @property
    def cause(self) -> tuple[object, object]:
        """Line and type of the exception, which failures of the same cause share."""
        return self.line, type(self.error)


def check_shapes(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the model runs at several batch sizes and lengths, and with the first and last token id."""
    failures = [failure for trial in _trials(subject) if (failure := _try(subject, trial)) is not None]
    failures = [failure for failure in failures if not _is_offset(subject, failure.trial)]
    if any(failure.trial.is_usual for failure in failures):
        _use_equal_lengths(subject)
    grouped: dict[tuple[object, object], list[_Failure]] = {}
    for failure in failures:
        grouped.setdefault(failure.cause, []).append(failure)
    for group in grouped.values():
        yield _describe(subject, group)


def _is_offset(subject: ModelUnderTest, trial: _Trial) -> bool:
    """Return whether the longest sequence fails only because the first rows of the position table belong to padding."""
    length = trial.inputs.target.shape[1]
    for module in subject.model.modules():
        padding = getattr(module, "padding_idx", None)
        weight = getattr(module, "weight", None)
        if not isinstance(padding, int) or not isinstance(weight, Tensor) or len(weight) != length:
            continue
        # Some models count positions from the row after padding, some look one position ahead.
        for shorter in (length - padding - 1, length - padding - 2):
            if length > subject.length and _try(subject, _trial(subject, "", 1, shorter, "")) is None:
                subject.longest = shorter
                return True
    return False


def _use_equal_lengths(subject: ModelUnderTest) -> None:
    """Let the other checks use equal lengths if the model fails only with different ones; otherwise skip them."""
    if subject.takes_decoder_ids:
        subject.equal_lengths = True
        if _try(subject, _trial(subject, "equal lengths", 2, subject.length, LENGTH_FIX)) is None:
            return
    subject.runs = False


def _trials(subject: ModelUnderTest) -> Iterator[_Trial]:
    different = " of different lengths" if subject.takes_decoder_ids else ""
    for batch in (1, 2, 3):
        name = f"a batch of {batch}{f' (source and target{different})' if different else ''}"
        yield _trial(subject, name, batch, subject.length, BATCH_FIX, is_usual=True)
    limit = declared_length(subject)
    for length in (1, 2, 7, 2):
        if length <= limit:
            yield _trial(subject, f"{length} token{'s' if length > 1 else ''}", 2, length, LENGTH_FIX)
    longest = min(limit, LONGEST, max(subject.length, MOST_LOGITS // max(1, subject.contract.output_size)))
    if longest > subject.length:
        fix = (
            f"give its tables of positions and masks {limit} rows, as many as the configuration declares "
            "(max_seq_len), or declare fewer; do not truncate the input."
        )
        yield _trial(subject, f"{longest} tokens, the longest declared sequence", 1, longest, fix)
    if not subject.takes_decoder_ids:
        vocabulary = config_hints.vocabulary_hint(subject.config) or subject.contract.vocab_size
        for token in (0, vocabulary - 1):
            ids = subject.inputs().ids.clone()
            ids[:, 0] = token
            fix = f"give the embedding as many rows as config.json declares (vocab_size: {vocabulary})."
            yield _Trial(f"token id {token}", Inputs(ids), fix)


def _trial(
    subject: ModelUnderTest, name: str, batch: int, length: int, remedy: str, *, is_usual: bool = False
) -> _Trial:
    source = length if length > subject.length else None
    return _Trial(name, subject.inputs(batch=batch, length=length, source=source), remedy, is_usual)


def _try(subject: ModelUnderTest, trial: _Trial) -> _Failure | None:
    try:
        logits = subject.logits(trial.inputs)
    except Exception as err:  # The model's code may raise anything; the exception is the finding.
        return _Failure(trial, subject.source.raised_at(err), err)
    if tuple(logits.shape) == _expected(subject, trial):
        return None
    return _Failure(trial, _shortening_line(subject, trial, logits), None, logits)


def _expected(subject: ModelUnderTest, trial: _Trial) -> tuple[int, ...]:
    size, target = subject.contract.output_size, trial.inputs.target
    return (*target.shape, size) if subject.labels_positions else (len(target), size)


def _describe(subject: ModelUnderTest, failures: list[_Failure]) -> Finding:
    first = failures[0]
    names = list(dict.fromkeys(failure.trial.name for failure in failures))
    shown = "; ".join(names[:3]) + (f" and {len(names) - 3} other sizes" if len(names) > 3 else "")
    if first.error is not None and first.line is not None:
        location = subject.locator.raised(first.error)
    else:
        location = subject.locator.at(first.line) if first.line is not None else subject.locator.forward()
    remedy = first.trial.remedy
    if first.error is not None:
        cause = root_cause(first.error)
        if len({failure.trial.remedy for failure in failures}) > 1:
            remedy = f"{explain(cause).fix}."
        message = (
            f"The model fails with {shown}. {explain(cause).meaning} Training and generation use many sizes. The "
            f"error: {describe(cause)}{subject.source.quoted(location.line)}"
        )
    else:
        assert first.logits is not None
        message = (
            f"The logits have the wrong shape with {shown}: found {tuple(first.logits.shape)}, expected "
            f"{_expected(subject, first.trial)}.{_shape_hint(first.logits, _expected(subject, first.trial))}"
        )
    return finding_at("sizes", "error", message, location, remedy)


def _shape_hint(logits: Tensor, expected: tuple[int, ...]) -> str:
    if logits.ndim == 3 and len(expected) == 3 and logits.shape[1] < expected[1]:
        return " The input is truncated: the last positions get no prediction, and labels no longer match."
    if logits.ndim < len(expected):
        return " An axis of size 1 was removed (squeeze)."
    return ""


def _shortening_line(subject: ModelUnderTest, trial: _Trial, logits: Tensor) -> SourceLine | None:
    """Return the line that first shortens the sequence; None if no line does."""
    length = trial.inputs.target.shape[-1]
    if logits.ndim != 3 or logits.shape[1] >= length:
        return None
    record = subject.traced(trial.inputs)
    for call in record.operations:
        if call.name in ("__getitem__", "narrow", "split", "chunk", "squeeze") and call.line and call.inputs:
            before, after = call.inputs[0].shape, call.output.shape
            if len(before) > 1 and before[1] == length and len(after) > 1 and after[1] < length:
                return call.line
    return None
