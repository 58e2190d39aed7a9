"""What a search found: a table of its trials and the best parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.experiments.tuning import trials as names
from transformer_foundry.core.experiments.tuning.results.trial_result import TrialRecord, record_of, state_of

if TYPE_CHECKING:
    import pandas as pd
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["best_trial", "shown_trials", "trials_table"]


def shown_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials worth showing: all that have a result, are paused or are trained now."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.params and (state_of(trial) != "failed" or _error_of(trial))]


def trials_table(study: Study) -> pd.DataFrame:
    """Return the trials of ``study`` as a table.

    Returns:
        One row a trial in order of number: number, state, loss (nats per target; of a paused trial its last), steps,
        steps_trained (what was lost or repeated included), seconds, a column a parameter, error.
    """
    import pandas as pd

    trials = shown_trials(study)
    return pd.DataFrame([_row(record_of(trial, ()), names.steps_trained(trial)) for trial in trials])


def best_trial(study: Study) -> FrozenTrial:
    """Return the complete trial with the lowest loss.

    Raises:
        TuningError: If no trial is complete.
    """
    trials = shown_trials(study)
    complete = [trial for trial in trials if state_of(trial) == "complete"]
    if not complete:
        raise _nothing_complete(trials)
    return min(complete, key=lambda trial: trial.value)


def _row(record: TrialRecord, steps_trained: int) -> dict[str, Any]:
    return {
        "number": record.number,
        "state": record.state,
        "loss": record.loss,
        "steps": record.steps,
        "steps_trained": steps_trained,
        "seconds": round(record.seconds, 2),
        **record.parameters,
        "error": record.error,
    }


def _nothing_complete(trials: Sequence[FrozenTrial]) -> TuningError:
    errors = [error for error in map(_error_of, trials) if error]
    return TuningError(
        f"None of the {len(trials)} trials of the study is complete{': ' + errors[0] if errors else ''}.",
        "Expected at least one trial that trained to its end.",
        "Search on: kedro run --pipelines tuning --params tuning.n_trials=NUMBER.",
    )


def _error_of(trial: FrozenTrial) -> str | None:
    return trial.user_attrs.get(names.ERROR)
