"""The measured duration of the steps of a session, and how many steps fit into a time."""

from __future__ import annotations

import bisect
import math
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformer_foundry.core.system.distributed import ProcessGroup

if TYPE_CHECKING:
    from transformer_foundry.core.data.dataloading.batches import BatchSource

__all__ = ["FORECAST_STEPS", "StepSizes", "StepTimer", "StepTiming", "regression_estimate", "steps_within"]

FORECAST_STEPS = 30
"""Steps of a session after which the duration of the rest is forecast."""

_WARM_UP = 4.0
"""Of the first ``FORECAST_STEPS``, steps this many times slower than the median compile and are left out."""

_RECENT = 100

_ENOUGH = 10
"""Steps that are enough to see how the duration of a step depends on its size."""

_SAMPLED_BATCHES = 512
"""Batches that the mean size is computed from: as many as are sorted by length together."""


@dataclass(frozen=True)
class StepTiming:
    """Measured durations of a session, in seconds.

    Attributes:
        step_s: One step, without evaluations.
        other_s: Everything else, for each step: records, checkpoints, the caller.
        evaluation_s: One evaluation; 0 where there are none.
        evaluation_steps: Steps between evaluations; None evaluates at the end only.
    """

    step_s: float
    other_s: float = 0.0
    evaluation_s: float = 0.0
    evaluation_steps: int | None = None

    @property
    def per_step_s(self) -> float:
        """One step with its share of everything but the last evaluation."""
        return self.step_s + self.other_s + (self.evaluation_s / self.evaluation_steps if self.evaluation_steps else 0)

    def seconds(self, steps: int, step: int = 0) -> float:
        """Return how long ``steps`` more steps after ``step`` take, with their evaluations.

        The evaluation of ``step`` itself has not been made yet, and there is one at the end.
        """
        every = self.evaluation_steps
        between = (step + steps - 1) // every - (max(step, 1) - 1) // every if every else 0
        return steps * (self.step_s + self.other_s) + (between + 1) * self.evaluation_s


def steps_within(left_s: float, timing: StepTiming, step: int = 0) -> int:
    """Return the steps after ``step`` that fit into ``left_s`` seconds with the evaluations among them, at least 1."""
    most = math.ceil(max(0.0, left_s) / max(timing.step_s + timing.other_s, 1e-9)) + 1
    return max(1, bisect.bisect_right(range(1, most + 1), left_s, key=lambda steps: timing.seconds(steps, step)))


@dataclass(frozen=True)
class StepSizes:
    """Sizes of the steps of this process in padded tokens, which differ where rows are of unequal length.

    Attributes:
        batches: The training data.
        batches_per_step: Batches of a step of all processes.
        processes: The processes that share a step.
    """

    batches: BatchSource
    batches_per_step: int
    processes: ProcessGroup

    def at(self, position: int) -> float:
        """Return the tokens of a process, with padding, in the step whose first batch is at ``position``."""
        total = sum(self.batches.padded_size(position + index) for index in range(self.batches_per_step))
        return total / self.processes.world_size

    def mean(self) -> float:
        """Return the mean padded tokens of a process in a step."""
        count = min(_SAMPLED_BATCHES, len(self.batches))
        mean = sum(map(self.batches.padded_size, range(count))) / count
        return mean * self.batches_per_step / self.processes.world_size


def regression_estimate(seconds: Sequence[float], sizes: Sequence[float], mean_size: float) -> float:
    """Estimate the duration of a step of mean size from steps that may have been larger or smaller.

    The regression estimator (Cochran, Sampling Techniques, 1977, 7.1): the mean, moved along the line of the time over
    the size. Time does not fall with size, and does not rise faster than in proportion.

    Args:
        seconds: (N,) of the steps measured.
        sizes: (N,) their sizes.
        mean_size: Mean size of all steps.

    Example:
        >>> sizes = range(1, 11)
        >>> round(regression_estimate([0.1 + 0.01 * size for size in sizes], sizes, 20), 6)
        0.3
    """
    mean = math.fsum(seconds) / max(1, len(seconds))
    if len(seconds) < _ENOUGH or len(set(sizes)) == 1:
        return mean
    slope = statistics.linear_regression(sizes, seconds).slope
    size = statistics.fmean(sizes)
    return mean + min(max(0.0, slope), mean / size) * (mean_size - size)


class StepTimer:
    """Measures the steps and evaluations of a session.

    Args:
        evaluation_steps: Steps between evaluations.
        sizes: Sizes of the steps.

    Attributes:
        steps: Steps that were measured, the first included.
        evaluation_s: Duration of an evaluation; None as long as it is unknown.
    """

    def __init__(self, evaluation_steps: int | None, sizes: StepSizes) -> None:
        self._evaluation_steps, self._sizes = evaluation_steps, sizes
        self._mean_size: float | None = None
        self._newest: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._overhead_from = time.monotonic()
        self._step_sum, self._evaluation_sum = 0.0, 0.0
        self.steps = 0
        self.evaluation_s: float | None = None

    @property
    def counted(self) -> int:
        """Number of the newest steps that the timing is computed from; the very first is slower and left out."""
        return len(self._newest)

    def add_step(self, seconds: float, position: int) -> None:
        """Add a step and the position of its first batch."""
        self.steps += 1
        if self.steps == 1:
            self._overhead_from = time.monotonic()
            return
        self._newest.append((seconds, position))
        self._step_sum += seconds

    def add_evaluation(self, seconds: float, spent_s: float) -> None:
        """Add the duration of an evaluation, samples included, and the time spent on measuring it."""
        self.evaluation_s = seconds
        self._evaluation_sum += spent_s

    def timing(self) -> StepTiming:
        """Return the duration of a step and of everything around it."""
        spent = time.monotonic() - self._overhead_from - self._step_sum - self._evaluation_sum
        other_s = max(0.0, spent) / max(1, self.steps - 1)
        return StepTiming(self._step_seconds(), other_s, self.evaluation_s or 0.0, self._evaluation_steps)

    def _step_seconds(self) -> float:
        measured = list(self._newest)
        if measured and self.steps <= FORECAST_STEPS:
            limit = _WARM_UP * statistics.median_low(seconds for seconds, _ in measured)
            measured = [pair for pair in measured if pair[0] <= limit]
        if self._mean_size is None:
            self._mean_size = self._sizes.mean()
        sizes = [self._sizes.at(position) for _, position in measured]
        return regression_estimate([seconds for seconds, _ in measured], sizes, self._mean_size)
