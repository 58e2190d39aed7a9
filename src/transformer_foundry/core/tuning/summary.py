"""What a search found: a table of its trials and the best parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformer_foundry.core.errors import TuningError
from transformer_foundry.core.tuning.loop import finished_trials, record_of

if TYPE_CHECKING:
    import pandas as pd
    from optuna.study import Study

__all__ = ["summarise"]


def summarise(study: Study) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the trials of ``study`` as a table and the parameters of the best one.

    Returns:
        The table, one row a trial in order of number: number, state, loss (nats per target token), steps, seconds,
        one column a parameter, error; and name -> value of the complete trial with the lowest loss.

    Raises:
        TuningError: If no trial is complete.
    """
    import pandas as pd

    records = [record_of(trial, ()) for trial in finished_trials(study)]
    complete = [record for record in records if record.state == "complete" and record.loss is not None]
    if not complete:
        errors = [record.error for record in records if record.error]
        raise TuningError(
            f"None of the {len(records)} trials of the study is complete{': ' + errors[0] if errors else ''}.",
            "Expected at least one trial that trained to its end.",
            "Search on: kedro run --pipelines tuning --params tuning.n_trials=NUMBER.",
        )
    best = min(complete, key=lambda record: record.loss if record.loss is not None else float("inf"))
    rows = [
        {
            "number": record.number,
            "state": record.state,
            "loss": record.loss,
            "steps": record.steps,
            "seconds": round(record.seconds, 2),
            **record.parameters,
            "error": record.error,
        }
        for record in records
    ]
    return pd.DataFrame(rows), dict(best.parameters)
