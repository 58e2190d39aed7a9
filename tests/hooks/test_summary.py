"""The end of a command says what was made, where, and what comes next."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from transformer_foundry.core.publishing import Package
from transformer_foundry.datasets import PackageDataset
from transformer_foundry.hooks import SummaryHooks
from transformer_foundry.pipelines import data_engineering, deployment, training, tuning, validation

FINDING = {"severity": "error", "message": "It sees the future.", "where": "model.py:3", "fix": "Mask it."}
BROKEN = {"kind": "decoder-only", "seconds": 1.0, "findings": [FINDING]}


def summarise(
    caplog: pytest.LogCaptureFixture, pipeline: Any, run_params: Any = None, data_dir: str = "data", **saved: Any
) -> str:
    caplog.set_level(logging.INFO)
    hooks = SummaryHooks()
    parameters = {"data_dir": data_dir, "run": {"name": "gpt", "preparation": "base"}}
    hooks.after_context_created(SimpleNamespace(config_loader={"parameters": parameters}))
    hooks.before_pipeline_run(run_params or {})
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
    text = summarise(caplog, validation.create_pipeline(), validation_report=BROKEN)
    assert all(part in text for part in ("1 problem found", "It sees the future.", "model.py:3", "Mask it."))


def test_a_model_with_an_error_is_to_be_mended_next(caplog: pytest.LogCaptureFixture) -> None:
    text = summarise(caplog, validation.create_pipeline(), validation_report=BROKEN)
    assert "Next: mend the model, export it again, and: kedro run --pipelines validation" in text
    assert "data_engineering" not in text


def test_the_next_command_is_given_as_this_one_was(caplog: pytest.LogCaptureFixture) -> None:
    given = {"env": "standard", "runtime_params": {"model": {"source": "my models/gpt"}, "data": {"streaming": True}}}
    text = summarise(caplog, data_engineering.create_pipeline(), given, token_splits=1)
    assert (
        "Next: kedro run --pipelines training --env standard "
        "--params 'model.source=my models/gpt,data.streaming=true'" in text
    )


def test_a_search_tells_its_verdict_and_how_to_train_with_what_it_found(caplog: pytest.LogCaptureFixture) -> None:
    given = {"runtime_params": {"model": {"source": "x"}}}
    comparison = {"verdict": "The winner beats the default configuration."}
    text = summarise(caplog, tuning.create_pipeline(), given, study=1, trials=1, search_comparison=comparison)
    assert "Search: The winner beats the default configuration." in text
    assert "06_models/base" in text
    assert "kedro run --pipelines training --params model.source=x,training.use_best=true" in text


def test_a_package_can_be_tried_next(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/inference.py").touch()
    (tmp_path / "made/manifest.json").write_text("{}")
    package = Package(tmp_path / "made", {"formats": [{"format": "onnx", "status": "verified"}]})
    place = tmp_path / "07_model_output/gpt"
    PackageDataset(filepath=str(place)).save(package)
    text = summarise(
        caplog,
        deployment.create_pipeline(),
        data_dir=str(tmp_path),
        model_package=package,
        hub_publication={"published": False},
    )
    assert "Package: onnx verified." in text
    assert f"Try it: python {place}/inference.py" in text


def test_a_publication_is_told_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    done = {"published": True, "url": "https://hub/alice/gpt", "tag": "v2"}
    assert "Published: https://hub/alice/gpt v2\n" in summarise(
        caplog, deployment.create_pipeline(), hub_publication=done
    )


def test_a_package_that_was_not_published_is_not_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    skipped = {"published": False}
    assert "Published" not in summarise(caplog, deployment.create_pipeline(), hub_publication=skipped)


def test_a_notebook_names_no_next_command(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer_foundry.hooks.summary.in_notebook", lambda: True)
    assert "Next" not in summarise(caplog, training.create_pipeline(), training_run=1)


def test_the_report_is_named_where_there_is_one(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "08_reporting" / "gpt" / "report.html"
    path.parent.mkdir(parents=True)
    path.touch()
    assert str(path) in summarise(caplog, training.create_pipeline(), data_dir=str(tmp_path), training_run=1)


def test_data_lead_on_to_training(caplog: pytest.LogCaptureFixture) -> None:
    text = summarise(caplog, data_engineering.create_pipeline(), tokenizer=1, token_splits=1, data_profile={})
    assert "data/05_model_input/base" in text
    assert "--pipelines training" in text


def test_training_tells_how_good_the_model_is(caplog: pytest.LogCaptureFixture) -> None:
    evaluation = {
        "validation": {"loss": 2.0, "targets": 10382.0},
        "comparisons": [{"sentence": "loss 2.000 beats a bigram model (2.500)"}],
    }
    text = summarise(caplog, training.create_pipeline(), training_run=None, evaluation=evaluation)
    assert "loss 2.000 beats a bigram model (2.500)" in text
    assert "loss 2, targets 10,382" in text
    assert "data/06_models/gpt" in text
    assert "--pipelines deployment" in text
