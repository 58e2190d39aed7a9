"""Summarize a search: the table of its trials and the best trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.base.text import spreadsheet_cell
from transformer_foundry.core.files.provenance import CODE_VERSION, digest_of
from transformer_foundry.core.studies.tuning.results.trial_result import TrialResult, result_of, state_of
from transformer_foundry.core.studies.tuning.storage.trial_attributes import error_of, final_loss, steps_trained

if TYPE_CHECKING:
    import pandas as pd
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["best_trial", "search_origin", "shown_trials", "trials_digest", "trials_table"]


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
    rows = [_row(result_of(trial, ()), steps_trained(trial)) for trial in trials]
    return pd.DataFrame([{name: spreadsheet_cell(value) for name, value in row.items()} for row in rows])


def search_origin(study: Study, model: str, data: str, settings: Mapping[str, Any]) -> dict[str, str | int]:
    """Return what the result of a search is made from.

    Args:
        study: The search.
        model: Identity of the model (``ModelSource.identity``).
        data: Fingerprint of the data.
        settings: Those of the comparison with the default (``confirm_settings``).
    """
    trials = trials_digest(_row(result_of(trial, ()), 0) for trial in shown_trials(study))
    return {"model": model, "data": data, "trials": trials, "parameters": digest_of(settings), "code": CODE_VERSION}


def trials_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest of the losses of complete trials: of rows of ``trials_table``, or of ``trials.csv`` as text."""
    complete = [row for row in rows if row["state"] == "complete"]
    return digest_of([[int(row["number"]), float(row["loss"])] for row in complete])


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
