"""Studies that version 0.1.0 stored are continued: names of attributes and of the study do not change."""

from __future__ import annotations

import optuna

from tests.core.studies.tuning.curves import CurveTrainer, curve_loss
from transformer_foundry.core.studies.tuning import TuningOptions, parse_space, search, trials_table
from transformer_foundry.core.studies.tuning.paused_checkpoints import PausedCheckpoints
from transformer_foundry.core.studies.tuning.storage import load_study

SPACE = parse_space(
    {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}}, {"learning_rate": 1e-3}
)
SESSION = {"seconds": 1.5, "ended": 1.0}


def stored_study() -> optuna.storages.InMemoryStorage:
    """A study with the default configuration, complete, and another one, paused after 50 of 100 steps."""
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="search", storage=storage, direction="minimize")
    study.set_user_attr("settings", {"space": SPACE.to_dict(), "max_steps": 100, "model": "a"})
    for state, rate, steps, attributes in (
        ("COMPLETE", 1e-3, 100, {"default": True, "straight": True, "error": None}),
        ("WAITING", 3e-3, 50, {"straight": False, "paused_at": 50, "gain": [[1, 0.1]]}),
    ):
        trial = optuna.create_trial(
            state=optuna.trial.TrialState[state],
            value=curve_loss(rate, 100) if state == "COMPLETE" else None,
            params={"learning_rate": rate},
            distributions=SPACE.distributions({"learning_rate": rate}),
            intermediate_values={step: curve_loss(rate, step) for step in range(10, steps + 1, 10)},
            user_attrs={**attributes, "worker": None, "attempts": 1, "sessions": [{"from": 0, "to": steps, **SESSION}]},
        )
        study.add_trial(trial)
    return storage


def test_a_paused_trial_of_an_earlier_version_is_resumed_and_its_steps_count() -> None:
    storage, trainer, checkpoints = stored_study(), CurveTrainer(), PausedCheckpoints()
    checkpoints.keep(1, 50)
    options = TuningOptions(n_trials=2, max_steps=100, evals_per_trial=10)
    (result,) = search(SPACE, trainer, options, storage, identity={"model": "a"}, checkpoints=checkpoints)
    assert (result.number, result.state, result.steps, result.is_best) == (1, "complete", 100, True)
    assert (trainer.trained_steps, trainer.tried) == (50, [])
    assert list(trials_table(load_study(storage))["steps_trained"]) == [100, 100]
