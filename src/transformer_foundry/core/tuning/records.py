"""What the search yields: one record for each trial that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["TrialRecord", "TrialState"]

TrialState = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """A trial that has ended, as it stands in the study.

    Args:
        number: Number of the trial in the study; interrupted attempts leave gaps.
        state: "complete" (trained to the end), "pruned" (stopped early, diverged ones too) or "failed" (an error).
        parameters: The values that were tried.
        loss: Last validation loss in nats per target token; None if none was reported or it was not finite.
        steps: Optimizer steps trained.
        seconds: Wall-clock time of the trial.
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
