"""Options of the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.options import check_options, option
from transformer_foundry.core.tuning.searchable import training_space

__all__ = ["TuningOptions"]


@dataclass(frozen=True)
class TuningOptions:
    """How long to search, where, and how.

    Raises:
        ParameterError: If a value has the wrong type or lies outside its range, or the space cannot be searched.
    """

    n_trials: int = option(8, "Finished trials of the study in total, over all sessions.", minimum=1)
    max_steps: int = option(80, "Optimizer steps of a full trial.", minimum=1, unit="steps")
    evals_per_trial: int = option(8, "Evaluations of a full trial, evenly spaced; pruning looks at each.", minimum=1)
    timeout_minutes: float | None = option(
        None, "No trial begins once the finished ones have taken this long.", above=0, unit="minutes"
    )
    sampler: str = option("tpe", "What proposes the next configuration.", choices=("tpe", "random"))
    pruner: str = option("percentile", "What stops a hopeless trial early.", choices=("percentile", "median", "none"))
    prune_after: float = option(
        0.35,
        "Share of a trial's steps before which nothing is pruned; at least the longest warm-up plus 0.15.",
        minimum=0,
        maximum=1,
    )
    seed: int = option(0, "Seed of the sampler; the trials themselves use training.seed.", minimum=0)
    space: dict[str, Any] = option(
        {},
        "Training parameter -> {type: float|int|categorical, low, high, log, choices}; a default space if empty.",
    )

    def __post_init__(self) -> None:
        check_options(self, "tuning")
        training_space(self.space)
