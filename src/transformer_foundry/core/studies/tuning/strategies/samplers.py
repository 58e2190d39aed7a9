"""Make Optuna's samplers by name, seeded so that an interrupted search continues with the same proposals."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import SearchSpace
from transformer_foundry.core.studies.tuning.storage.optuna_compat import ignore_experimental_warnings

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["FINITE_ONLY", "check_sampler", "make_sampler"]

MAX_RANDOM_TRIALS = 8
"""Random trials at the start of a long search; a third of the trials in a short one."""

NEEDED = {"gp": "scipy", "cmaes": "cmaes", "qmc": "scipy", "wilcoxon": "scipy"}
"""Libraries that samplers and pruners of Optuna import beside Optuna."""

FINITE_ONLY = ("grid", "brute_force")
"""Samplers that try every configuration of a space."""


def check_sampler(options: TuningOptions, space: SearchSpace) -> None:
    """Check that the libraries of sampler and pruner are installed and that the sampler suits the space.

    Raises:
        TuningError: If a library is missing, or the sampler needs a finite space.
    """
    for key, name in (("sampler", options.sampler), ("pruner", options.pruner)):
        needed = NEEDED.get(name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            raise TuningError(
                f"tuning.{key} is {name}, which needs the library {needed}; it is not installed.",
                f"Expected a {key} whose libraries are installed.",
                f"Install it (pip install {needed}), or leave tuning.{key} out.",
            )
    infinite = [dimension.name for dimension in space.dimensions if dimension.n_levels is None]
    if options.sampler in FINITE_ONLY and infinite:
        raise TuningError(
            f"tuning.sampler is {options.sampler}, but {', '.join(infinite)} can take any value of a range.",
            "Expected only whole numbers and choices: it tries every combination.",
            f"Make tuning.space.{infinite[0]} a list of choices, or set tuning.sampler=pause_resume.",
        )
    conditional = [dimension.name for dimension in space.dimensions if dimension.when]
    if options.sampler == "grid" and conditional:
        raise TuningError(
            f"tuning.sampler is grid, but {', '.join(conditional)} does not exist in every configuration.",
            "Expected a space without 'when'.",
            "Set tuning.sampler=brute_force, which tries every configuration that exists.",
        )


def make_sampler(options: TuningOptions, space: SearchSpace, n_started: int) -> BaseSampler:
    """Return the sampler that ``options`` name for the trial after ``n_started`` others.

    A sampler that was seeded once would propose its first configurations again after an interruption. So each trial
    has a new sampler, seeded by the number of trials.
    """
    with ignore_experimental_warnings():
        return _make_sampler(options, space, n_started)


def _make_sampler(options: TuningOptions, space: SearchSpace, n_started: int) -> BaseSampler:
    from optuna import samplers

    seed = (options.seed * 1_000_003 + n_started) % 2**32
    n_random = min(MAX_RANDOM_TRIALS, max(1, options.n_trials // 3))
    match options.sampler:
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=n_random, warn_independent_sampling=False)
        case "cmaes":
            # Its state is stored in the study, so that new seeds do not restart it.
            return samplers.CmaEsSampler(seed=seed, n_startup_trials=n_random, warn_independent_sampling=False)
        case "qmc":
            # Scrambled by the seed of the search: its position in one sequence is stored in the study.
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
