import math

import optuna
import pytest

from tests.core.training.tiny import VOCAB_SIZE, make_options, make_splits
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.core.studies.tuning import (
    TuningOptions,
    make_train_trial,
    model_space,
    paused_checkpoints_in,
    search,
    training_space,
    trial_identity,
)
from transformer_foundry.core.studies.tuning.train_trial import trial_options
from transformer_foundry.core.training import Progress, fit

MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids):
        return self.head(self.embedding(input_ids))
"""
CONFIG = f'{{"model_name": "Model", "vocab_size": {VOCAB_SIZE}, "d_model": 16, "max_seq_len": 12}}'
TUNING = TuningOptions(n_trials=3, max_steps=20, evals_per_trial=4)
TASK = {"kind": "decoder-only", "task": "causal_lm"}


@pytest.fixture
def export(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "config.json").write_text(CONFIG)
    return read_export(tmp_path)


@pytest.fixture
def train_trial(export):
    return make_train_trial(export, make_splits(), make_options(), TUNING, **TASK)


def test_a_trial_is_a_training_with_its_parameters(export, train_trial):
    options = make_options(learning_rate=3e-3, max_steps=20, eval_steps=5, num_samples=0)
    records = fit(load_model(export, **TASK, seed=options.seed), make_splits(), options)
    losses = [record.metrics.get("eval/loss") for record in records if isinstance(record, Progress)]
    trial = list(train_trial({"learning_rate": 3e-3}))
    assert [report[0] for report in trial] == [5, 10, 15, 20]
    assert [report[1] for report in trial] == [loss for loss in losses if loss is not None]


def test_a_trial_forecasts_nothing(export, caplog):
    tuning = TuningOptions(n_trials=3, max_steps=34, evals_per_trial=1)
    with caplog.at_level("INFO"):
        list(make_train_trial(export, make_splits(), make_options(), tuning, **TASK)({}))
    assert "Forecast" not in caplog.text


def test_a_trial_that_was_paused_on_disk_ends_as_if_it_had_not_been(train_trial, tmp_path):
    whole = list(train_trial({"learning_rate": 3e-3}))
    states = paused_checkpoints_in(tmp_path / "paused", limit_gib=1.0)
    (step, _, checkpoint) = next(report for report in train_trial({"learning_rate": 3e-3}) if len(report) > 2)
    assert (step, states.keep(0, checkpoint)) == (10, True)
    resumed = list(train_trial({"learning_rate": 3e-3}, states.get(0)))
    assert [report[:2] for report in resumed] == [report[:2] for report in whole[2:]]


def test_a_trial_can_change_the_model(train_trial):
    narrow, wide = (list(train_trial({"model.d_model": width}))[-1][1] for width in (4, 32))
    assert narrow > wide


def test_a_model_that_cannot_be_built_with_a_value_of_the_space_is_refused_before_training(export):
    space = {"model.d_model": {"type": "int", "low": -3, "high": 8}}
    with pytest.raises(ParameterError, match=r"model\.d_model reaches -3, with which the model cannot be built"):
        model_space(export, TuningOptions(space=space), make_options())


def test_a_trial_does_not_depend_on_those_before_it(train_trial):
    first = [report[:2] for report in train_trial({"learning_rate": 3e-3})]
    list(train_trial({"learning_rate": 1e-1}))
    assert [report[:2] for report in train_trial({"learning_rate": 3e-3})] == first


def test_a_trial_that_diverges_reports_a_loss_that_is_not_a_number(train_trial):
    assert math.isnan(list(train_trial({"learning_rate": 1e30}))[-1][1])


def test_a_trial_writes_nothing(train_trial, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    list(train_trial({"learning_rate": 3e-3}))
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "__pycache__" not in str(path)] == []


def test_a_search_over_a_real_model_ends_with_its_best_trial(export, train_trial):
    space = training_space({}, make_options())
    records = list(search(space, train_trial, TUNING, optuna.storages.InMemoryStorage()))
    assert records[0].parameters["learning_rate"] == 1e-2
    assert records[-1].best_loss == min(record.loss for record in records if record.state == "complete")


def test_a_trial_keeps_what_the_space_does_not_search():
    options = trial_options(make_options(beta2=0.9, early_stopping_patience=1), TUNING, {"learning_rate": 3e-3})
    assert (options.beta2, options.learning_rate, options.max_steps) == (0.9, 3e-3, 20)
    assert (options.save_steps, options.save_minutes, options.early_stopping_patience) == (None, None, None)


def test_the_identity_of_a_search_changes_with_what_its_losses_depend_on(export):
    space, splits = training_space({}), make_splits()
    identity = trial_identity(export, splits, make_options(), space)
    for same in (make_options(learning_rate=0.5), make_options(save_steps=7), make_options(max_steps=9)):
        assert trial_identity(export, splits, same, space) == identity
    for other in (make_options(seed=1), make_options(beta2=0.9), make_options(per_device_train_batch_size=2)):
        assert trial_identity(export, splits, other, space) != identity
