"""The result of a trial: what the search yields for each trial that has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transformer_foundry.core.studies.tuning.storage.trial_attributes import (
    error_of,
    final_loss,
    is_paused,
    seconds_of,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["TrialResult", "TrialState", "result_of", "state_of"]

TrialState = Literal["complete", "pruned", "failed", "paused", "running"]


@dataclass(frozen=True)
class TrialResult:
    """A trial of a study that has ended.

    Args:
        number: Number of the trial in the study; lost races leave gaps.
        state: "complete" (trained to the end), "pruned" (stopped early or diverged), "failed" (an error), or, in a
            table of all trials, "paused" or "running".
        parameters: The values that were tried.
        loss: Last validation loss in nats per target token; None if none was reported or it was not finite.
        steps: Last optimizer step that was evaluated.
        seconds: Wall-clock time of all sessions of the trial.
        is_best: Whether this trial is complete and better than every complete trial before it.
        best_loss: Lowest loss of the complete trials so far, this one included; None if there is none.
        curve: The (step, validation loss) pairs that the trial reported, in order.
        error: Why the trial failed or diverged; None otherwise.
    """

    number: int
    state: TrialState
    parameters: Mapping[str, Any]
    loss: float | None
    steps: int
    seconds: float
    is_best: bool
    best_loss: float | None
    curve: tuple[tuple[int, float], ...] = ()
    error: str | None = None


def state_of(trial: FrozenTrial) -> TrialState:
    """Return the state of a trial; one that is queued counts as running."""
    if is_paused(trial):
        return "paused"
    states: dict[str, TrialState] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return states.get(trial.state.name, "running")


def result_of(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> TrialResult:
    """Return the result of a trial; ``others`` are the trials before it that it is compared with."""
    state = state_of(trial)
    curve = tuple(sorted(trial.intermediate_values.items()))
    final, last = final_loss(trial), curve[-1][1] if curve else None
    loss = final if final is not None else last
    earlier = [value for value in map(final_loss, others) if value is not None]
    return TrialResult(
        number=trial.number,
        state=state,
        parameters=dict(trial.params),
        loss=loss if loss is not None and math.isfinite(loss) else None,
        steps=curve[-1][0] if curve else 0,
        seconds=seconds_of(trial),
        is_best=final is not None and all(final < value for value in earlier),
        best_loss=min([*earlier, *([] if final is None else [final])], default=None),
        curve=curve,
        error=error_of(trial),
    )
