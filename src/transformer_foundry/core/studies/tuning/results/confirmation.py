"""Compare the winner of a search with the default configuration: train both in full with several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.studies.tuning.default_spaces import split_parameters
from transformer_foundry.core.studies.tuning.results.summary import best_trial
from transformer_foundry.core.studies.tuning.storage.trial_attributes import DEFAULT_ATTR
from transformer_foundry.core.studies.tuning.strategies.candidates import key_of

if TYPE_CHECKING:
    from optuna.study import Study

__all__ = ["compare_with_default", "confirm", "default_of"]

CONFIRMED = "confirmed"
"""Attribute of the study: losses of the trainings that are done."""

MIN_STANDARD_ERRORS = 2.0
"""A mean difference above this many standard errors is called better or worse."""


def default_of(study: Study) -> dict[str, Any] | None:
    """Return the default configuration as the study tried it, or None."""
    trials = study.get_trials(deepcopy=False)
    return next((dict(trial.params) for trial in trials if trial.user_attrs.get(DEFAULT_ATTR)), None)


def confirm(
    study: Study, train: Callable[[Mapping[str, Any], int], float], *, steps: int, n_seeds: int, first_seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters for training, and the comparison that they are chosen by (:func:`compare_with_default`).

    Returns:
        ``parameters``: the winner's, or the default ones if the winner is worse when both are trained in full;
        ``model_overrides``: its values of the model's configuration; ``loss``: that of the search. And the comparison.

    Raises:
        TuningError: If no trial is complete.
    """
    winner = best_trial(study)
    comparison = compare_with_default(study, winner.params, train, steps=steps, n_seeds=n_seeds, first_seed=first_seed)
    # A tie goes to the winner: it was better in the search.
    default = default_of(study)
    is_kept = default is None or comparison.get("difference", 0.0) >= 0
    training, overrides = split_parameters(winner.params if is_kept else default or {})
    return {"parameters": training, "model_overrides": overrides, "loss": winner.value}, comparison


def compare_with_default(
    study: Study,
    best: Mapping[str, Any],
    train: Callable[[Mapping[str, Any], int], float],
    *,
    steps: int,
    n_seeds: int,
    first_seed: int,
) -> dict[str, Any]:
    """Train the winner and the default with the same fresh seeds and compare their validation losses.

    The seeds of the search are not used again: the winner may have been lucky with them. Losses are stored in the
    study, so that an interrupted comparison continues.

    Args:
        study: The study; it holds the default configuration.
        best: The winner's parameters.
        train: (parameters, seed) -> final validation loss in nats.
        steps: Optimizer steps of these trainings.
        n_seeds: Number of seeds; 0 compares nothing.
        first_seed: The first seed; the others follow.

    Returns:
        ``verdict`` (a sentence), ``is_better`` (None if unknown), ``steps``, ``seeds``, ``best`` and ``default``
        (losses by seed), ``difference`` (mean of default - best, nats) and its ``standard_error``.
    """
    default = default_of(study)
    if default is None or key_of(default) == key_of(best):
        found = "nothing that was tried beats it" if default else "it is unknown"
        return _result(f"The default configuration stays: {found}.", None, steps)
    if n_seeds == 0:
        return _result("Not compared with the default: tuning.confirm_seeds is 0.", None, steps)
    seeds = [first_seed + index for index in range(n_seeds)]
    # Seed by seed, so that an interrupted comparison has pairs.
    pairs = [tuple(_loss(study, values, seed, steps, train) for values in (default, best)) for seed in seeds]
    differences = [theirs - ours for theirs, ours in pairs]
    mean = sum(differences) / n_seeds
    error = None
    if n_seeds > 1:
        error = math.sqrt(sum((value - mean) ** 2 for value in differences) / (n_seeds - 1) / n_seeds)
    return _result(
        _verdict(mean, error, n_seeds, steps),
        _is_better(mean, error),
        steps,
        seeds=seeds,
        default=[pair[0] for pair in pairs],
        best=[pair[1] for pair in pairs],
        difference=mean,
        standard_error=error,
    )


def _is_better(mean: float, error: float | None) -> bool | None:
    if math.isnan(mean) or abs(mean) <= MIN_STANDARD_ERRORS * (error or 0.0):
        return None
    return mean > 0


def _verdict(mean: float, error: float | None, n_seeds: int, steps: int) -> str:
    verdict = {True: "beats", False: "is worse than", None: "cannot be distinguished from"}[_is_better(mean, error)]
    spread = "one seed, no uncertainty" if error is None else f"standard error {error:.4f}, {n_seeds} seeds"
    margin = f"{abs(mean):.4f} nats {'lower' if mean >= 0 else 'higher'}"
    if math.isnan(mean):
        margin = "a training diverged"
    return f"The winner {verdict} the default configuration: {margin} after {steps} steps ({spread})."


def _result(verdict: str, is_better: bool | None, steps: int, **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "is_better": is_better, "steps": steps, **more}


def _loss(
    study: Study,
    parameters: Mapping[str, Any],
    seed: int,
    steps: int,
    train: Callable[[Mapping[str, Any], int], float],
) -> float:
    key = f"{key_of(parameters)} seed {seed} steps {steps}"
    known = dict(study.user_attrs.get(CONFIRMED, {}))
    if key not in known:
        known[key] = train(parameters, seed)
        study.set_user_attr(CONFIRMED, known)
    return float(known[key])
