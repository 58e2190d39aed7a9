"""The end of a command says what was made, where, and what comes next."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from transformer_foundry.hooks import SummaryHooks
from transformer_foundry.pipelines import data_engineering, training, validation

FINDING = {"severity": "error", "message": "It sees the future.", "where": "model.py:3", "fix": "Mask it."}


def summarise(caplog: pytest.LogCaptureFixture, pipeline: Any, **saved: Any) -> str:
    caplog.set_level(logging.INFO)
    hooks = SummaryHooks()
    parameters = {"data_dir": "data", "run": {"name": "gpt"}}
    hooks.after_context_created(SimpleNamespace(config_loader={"parameters": parameters}))
    for name, data in saved.items():
        hooks.after_dataset_saved(name, data)
    hooks.after_pipeline_run(pipeline)
    return caplog.text


def test_a_sound_model_is_said_to_be_sound(caplog: pytest.LogCaptureFixture) -> None:
    report = {"kind": "decoder-only", "seconds": 1.0, "findings": [FINDING | {"severity": "info"}]}
    text = summarise(caplog, validation.create_pipeline(), validation_report=report)
    assert "the model is sound" in text
    assert "--pipelines data_engineering" in text


def test_each_problem_is_told_with_its_place_and_cure(caplog: pytest.LogCaptureFixture) -> None:
    report = {"kind": "decoder-only", "seconds": 1.0, "findings": [FINDING]}
    text = summarise(caplog, validation.create_pipeline(), validation_report=report)
    assert all(part in text for part in ("1 problem found", "It sees the future.", "model.py:3", "Mask it."))


def test_data_lead_on_to_training(caplog: pytest.LogCaptureFixture) -> None:
    text = summarise(caplog, data_engineering.create_pipeline(), tokenizer=1, token_splits=1, data_profile={})
    assert "data/05_model_input/gpt" in text
    assert "--pipelines training" in text


def test_training_tells_how_good_the_model_is(caplog: pytest.LogCaptureFixture) -> None:
    evaluation = {"validation": {"loss": 2.0}, "comparisons": [{"sentence": "loss 2.000 beats a bigram model (2.500)"}]}
    text = summarise(caplog, training.create_pipeline(), training_run=None, evaluation=evaluation)
    assert "loss 2.000 beats a bigram model (2.500)" in text
    assert "data/06_models/gpt" in text
    assert "--pipelines deployment" in text
