"""Summarize a search: the table of its trials and the best trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.experiments.tuning.results.trial_result import TrialResult, result_of, state_of
from transformer_foundry.core.experiments.tuning.storage.trial_attributes import error_of, final_loss, steps_trained

if TYPE_CHECKING:
    import pandas as pd
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["best_trial", "shown_trials", "trials_table"]


def shown_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials to show: those that have a result, are paused or are in training."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.params and (state_of(trial) != "failed" or error_of(trial))]


def trials_table(study: Study) -> pd.DataFrame:
    """Return the trials of ``study`` as a table.

    Returns:
        One row for each trial, by number: number, state, loss (nats per target; of a paused trial its last), steps,
        steps_trained (including lost and repeated steps), seconds, one column for each parameter, error.
    """
    import pandas as pd

    trials = shown_trials(study)
    return pd.DataFrame([_row(result_of(trial, ()), steps_trained(trial)) for trial in trials])


def best_trial(study: Study) -> FrozenTrial:
    """Return the complete trial with the lowest loss.

    Raises:
        TuningError: If no trial is complete.
    """
    trials = shown_trials(study)
    losses = [(loss, trial) for trial in trials if (loss := final_loss(trial)) is not None]
    if not losses:
        errors = [error for error in map(error_of, trials) if error]
        raise TuningError(
            f"None of the {len(trials)} trials of the study is complete{': ' + errors[0] if errors else ''}.",
            "Expected at least one trial that trained to its end.",
            "Continue the search: kedro run --pipelines tuning --params tuning.n_trials=NUMBER.",
        )
    return min(losses, key=lambda pair: pair[0])[1]


def _row(result: TrialResult, n_steps: int) -> dict[str, Any]:
    return {
        "number": result.number,
        "state": result.state,
        "loss": result.loss,
        "steps": result.steps,
        "steps_trained": n_steps,
        "seconds": round(result.seconds, 2),
        **result.parameters,
        "error": result.error,
    }
