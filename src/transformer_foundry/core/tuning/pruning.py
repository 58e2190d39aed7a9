"""When a trial is stopped early, and what proposes the next one: Optuna's, with settings that do not lose the best.

Configurations with a warm-up look bad while it lasts: among the good ones, the rank correlation between the loss at a
tenth of the steps and the final loss is negative. A pruner that judges then loses the best configuration in nine of
ten searches, so nothing is pruned before the longest warm-up is over by a margin.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from transformer_foundry.core.tuning.options import TuningOptions

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["first_prunable_step", "make_pruner", "make_sampler"]

MARGIN_AFTER_WARMUP = 0.15
"""Share of the steps that a trial trains on after the longest warm-up before it is judged."""

KEPT_PERCENTILE = 25.0
"""A trial goes on while its best loss is within this percentile of the complete trials' losses at the same step.

With the late start and the default first it needed 0.46 times the steps of unpruned TPE until a trial was within 1 % of
the best, on a table of 324 full learning curves; the median needed more, tighter percentiles missed the best."""

COMPLETE_BEFORE_PRUNING = 3
"""Complete trials to compare with before the first is pruned."""

MOST_RANDOM_TRIALS = 8
"""Random trials before TPE has seen enough to propose, in a long search; a third of the trials in a short one."""


def first_prunable_step(max_steps: int, longest_warmup_ratio: float, prune_after: float) -> int:
    """Return the first step at which a trial may be pruned.

    Args:
        max_steps: Optimizer steps of a full trial.
        longest_warmup_ratio: Largest share of the steps, 0 to 1, that any trial of the space spends warming up.
        prune_after: Share of the steps, 0 to 1, before which nothing is pruned whatever the warm-up.

    Example:
        >>> first_prunable_step(200, longest_warmup_ratio=0.25, prune_after=0.35)
        80
    """
    share = max(longest_warmup_ratio + MARGIN_AFTER_WARMUP, prune_after)
    # Rounded first: 0.2 + 0.15 is a little more than 0.35 in binary, and would cost a whole evaluation.
    return math.ceil(round(share * max_steps, 6))


def make_pruner(options: TuningOptions, longest_warmup_ratio: float) -> BasePruner:
    """Return the pruner that ``options`` name, held back until :func:`first_prunable_step`."""
    from optuna.pruners import MedianPruner, NopPruner, PercentilePruner

    if options.pruner == "none":
        return NopPruner()
    start = first_prunable_step(options.max_steps, longest_warmup_ratio, options.prune_after)
    if options.pruner == "median":
        return MedianPruner(n_startup_trials=COMPLETE_BEFORE_PRUNING, n_warmup_steps=start)
    return PercentilePruner(KEPT_PERCENTILE, n_startup_trials=COMPLETE_BEFORE_PRUNING, n_warmup_steps=start)


def make_sampler(options: TuningOptions, n_finished: int) -> BaseSampler:
    """Return the sampler that ``options`` name for the trial after ``n_finished`` others.

    A search that was interrupted must go on as if it had not been: a sampler seeded once would propose its first
    configurations again, so each trial has a sampler of its own, seeded by how many have finished.
    """
    from optuna.samplers import RandomSampler, TPESampler

    seed = (options.seed * 1_000_003 + n_finished) % 2**32
    if options.sampler == "random":
        return RandomSampler(seed=seed)
    n_random = min(MOST_RANDOM_TRIALS, max(1, options.n_trials // 3))
    return TPESampler(seed=seed, n_startup_trials=n_random, multivariate=True)
