"""Options of the section ``tuning``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import Options, check_options, option
from transformer_foundry.core.studies.tuning.default_spaces import training_space

__all__ = ["PRUNERS", "SAMPLERS", "TuningOptions"]

SAMPLERS = (
    "pause_resume",
    "tpe",
    "random",
    "gp",
    "cmaes",
    "qmc",
    "nsgaii",
    "nsgaiii",
    "grid",
    "brute_force",
)
PRUNERS = ("percentile", "median", "successive_halving", "hyperband", "patient", "threshold", "wilcoxon", "none")


@dataclass(frozen=True)
class TuningOptions(Options):
    """The budget, the strategy and the storage of a search.

    Raises:
        ParameterError: If a value has the wrong type or is outside its range, or the space cannot be searched.
    """

    n_trials: int = option(
        8,
        "Budget of the whole study, over all sessions and workers: for pause_resume the steps of this many full "
        "trials, for the other samplers this many trials.",
        minimum=1,
    )
    max_steps: int = option(80, "Optimizer steps of a full trial.", minimum=1, unit="steps")
    evals_per_trial: int = option(
        4, "Evaluations of a full trial, evenly spaced; trials are paused and pruned at them.", minimum=1
    )
    timeout_hours: float | None = option(
        None, "No training starts after the study's trainings have taken this long.", above=0, unit="hours"
    )
    min_gain: float = option(
        0.0005,
        "pause_resume stops when eight decisions in a row expect no training to lower the best loss by more than this "
        "share of it; 0 spends the whole budget.",
        minimum=0,
        below=1,
    )
    sampler: str = option("pause_resume", "Strategy that proposes the next configuration.", choices=SAMPLERS)
    pause_at: float = option(
        0.5,
        "Share of a trial's steps after which pause_resume pauses it; at least the longest warm-up plus 0.15.",
        above=0,
        below=1,
    )
    paused_gib: float = option(
        5.0,
        "Disk space for checkpoints of paused trials; trials whose checkpoint does not fit start over.",
        minimum=0,
        unit="GiB",
    )
    pruner: str = option(
        "percentile", "Strategy that stops a hopeless trial early; pause_resume pauses trials instead.", choices=PRUNERS
    )
    prune_after: float = option(
        0.35,
        "Share of a trial's steps before which nothing is pruned; at least the longest warm-up plus 0.15.",
        minimum=0,
        maximum=1,
    )
    prune_above: float | None = option(
        None, "Validation loss above which the threshold pruner stops a trial.", unit="nats per target"
    )
    seed: int = option(0, "Seed of the sampler; the trials themselves use training.seed.", minimum=0)
    storage: str | None = option(
        None,
        "URL of a database for several machines, such as postgresql+psycopg2://user@host/name; null is a SQLite file "
        "of the run. Keep the password out of it: PGPASSWORD or ~/.pgpass.",
    )
    confirm_seeds: int = option(
        2, "Seeds with which the winner and the default are trained in full and compared; 0 skips this.", minimum=0
    )
    confirm_steps: int | None = option(
        None, "Optimizer steps of these trainings; null is training.max_steps.", minimum=1, unit="steps"
    )
    space: dict[str, Any] = option(
        {},
        "Parameter of training, or model.NAME of config.json -> {type: float|int|categorical, low, high, log, choices, "
        "when}; a default space for the kind of model if empty.",
    )

    def __post_init__(self) -> None:
        check_options(self, "tuning")
        training_space(self.space)  # as far as it can be checked without the model
        self._check_pruner()

    def _check_pruner(self) -> None:
        pauses = self.sampler == "pause_resume"
        if pauses and self.pruner not in ("percentile", "none"):
            raise ParameterError(
                f"tuning.pruner is {self.pruner}, but tuning.sampler is pause_resume, which pauses trials itself.",
                "Expected a pruner only with one of Optuna's samplers.",
                "Set tuning.sampler=tpe, or leave tuning.pruner out.",
            )
        if not pauses and self.pruner != "none" and min(self.evals_per_trial, self.max_steps) < 2:
            raise ParameterError(
                f"tuning.pruner is {self.pruner}, but a trial is evaluated only at its end.",
                "Expected at least two evaluations, tuning.evals_per_trial and tuning.max_steps above 1.",
                "Set tuning.evals_per_trial=4, or tuning.pruner=none.",
            )
        if self.pruner == "threshold" and self.prune_above is None:
            raise ParameterError(
                "tuning.pruner is threshold, but tuning.prune_above is null.",
                "Expected the validation loss above which a trial is stopped.",
                "Set tuning.prune_above, or another tuning.pruner.",
            )
