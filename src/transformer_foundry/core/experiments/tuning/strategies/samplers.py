"""What proposes the next configuration: Optuna's samplers by name, seeded so that a search can be interrupted."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.experiments.tuning.options import TuningOptions
from transformer_foundry.core.experiments.tuning.space import SearchSpace
from transformer_foundry.core.experiments.tuning.storage import quiet_optuna

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["FINITE_ONLY", "check_sampler", "make_sampler"]

MOST_RANDOM_TRIALS = 8
"""Random trials before a sampler has seen enough to propose, in a long search; a third of the trials in a short one."""

NEEDED = {"gp": "scipy", "cmaes": "cmaes", "qmc": "scipy", "wilcoxon": "scipy"}
"""What a sampler or pruner of Optuna imports beside Optuna."""

FINITE_ONLY = ("grid", "brute_force")
"""Samplers that try each configuration of a space."""


def check_sampler(options: TuningOptions, space: SearchSpace) -> None:
    """Check that sampler and pruner can be made and that the sampler suits the space.

    Raises:
        TuningError: If a library is missing, or the sampler needs a space with an end.
    """
    for key, name in (("sampler", options.sampler), ("pruner", options.pruner)):
        needed = NEEDED.get(name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            raise TuningError(
                f"tuning.{key} is {name}, which needs the library {needed}; it is not installed.",
                f"Expected a {key} whose libraries are there.",
                f"Install it (pip install {needed}), or leave tuning.{key} out.",
            )
    endless = [dimension.name for dimension in space.dimensions if dimension.n_levels is None]
    if options.sampler in FINITE_ONLY and endless:
        raise TuningError(
            f"tuning.sampler is {options.sampler}, but {', '.join(endless)} can take any value of a range.",
            "Expected whole numbers and choices only: it tries each combination.",
            f"Make tuning.space.{endless[0]} a list of choices, or set tuning.sampler=pause_resume.",
        )
    conditional = [dimension.name for dimension in space.dimensions if dimension.when]
    if options.sampler == "grid" and conditional:
        raise TuningError(
            f"tuning.sampler is grid, but {', '.join(conditional)} does not exist in every configuration.",
            "Expected a space without 'when'.",
            "Set tuning.sampler=brute_force, which tries each configuration that exists.",
        )


def make_sampler(options: TuningOptions, space: SearchSpace, n_begun: int) -> BaseSampler:
    """Return the sampler that ``options`` name for the trial after ``n_begun`` others.

    A search that was interrupted must go on as if it had not been: a sampler seeded once would propose its first
    configurations again, so each trial has a sampler of its own, seeded by how many there are.
    """
    with quiet_optuna():
        return _make_sampler(options, space, n_begun)


def _make_sampler(options: TuningOptions, space: SearchSpace, n_begun: int) -> BaseSampler:
    from optuna import samplers

    seed = (options.seed * 1_000_003 + n_begun) % 2**32
    n_random = min(MOST_RANDOM_TRIALS, max(1, options.n_trials // 3))
    match options.sampler:
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=n_random, warn_independent_sampling=False)
        case "cmaes":
            # Of one seed throughout: its state is kept in the study, and new seeds would not restart it.
            return samplers.CmaEsSampler(seed=seed, n_startup_trials=n_random, warn_independent_sampling=False)
        case "qmc":
            # Scrambled by the seed of the search: the sequence must be one, its position is kept in the study.
            return samplers.QMCSampler(seed=options.seed, scramble=True, warn_independent_sampling=False)
        case "nsgaii":
            return samplers.NSGAIISampler(seed=seed, population_size=max(2, n_random))
        case "nsgaiii":
            return samplers.NSGAIIISampler(seed=seed, population_size=max(2, n_random))
        case "grid":
            levels = {
                dimension.name: list(dimension.choices) or list(range(*_range(dimension.bounds)))
                for dimension in space.dimensions
            }
            return samplers.GridSampler(levels, seed=options.seed)
        case "brute_force":
            return samplers.BruteForceSampler(seed=seed)
    return samplers.TPESampler(
        seed=seed, n_startup_trials=n_random, multivariate=True, group=any(d.when for d in space.dimensions)
    )


def _range(bounds: tuple[float, float]) -> tuple[int, int]:
    return int(bounds[0]), int(bounds[1]) + 1
