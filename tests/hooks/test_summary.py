"""The end of a command says what was made, where, and what comes next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from kedro.pipeline import Pipeline

from tests.core.training.tiny import make_splits
from tests.hooks.runs import Run
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.training import Started
from transformer_foundry.datasets import PackageDataset, StudyDataset
from transformer_foundry.hooks import SummaryCallback
from transformer_foundry.pipelines import data_engineering, deployment, training, tuning, validation

FINDING = {"severity": "error", "message": "It sees the future.", "where": "model.py:3", "fix": "Mask it."}
BROKEN = {"status": "fail", "kind": "decoder-only", "seconds": 1.0, "findings": [FINDING]}
STARTED = Started(0, 10, False, {})
PUBLICATION = {"published": False, "model": "gpt", "version": 1}


def summarize(
    caplog: pytest.LogCaptureFixture,
    pipeline: Pipeline,
    *saved: Any,
    data_dir: str = "data",
    entries: dict[str, Any] | None = None,
    **run_params: Any,
) -> str:
    """Return what is logged of a pipeline that has saved these results."""
    caplog.set_level(logging.INFO)
    run = Run(Path(data_dir), SummaryCallback(), sections={"run": {"name": "gpt", "preparation": "base"}})
    for name, dataset in (entries or {}).items():
        run.catalog[name] = dataset
    run.begin(pipeline.inputs(), pipeline.all_outputs(), **run_params)
    for name, data in [(f"result_{number}", data) for number, data in enumerate(saved)]:
        run.show("model_package" if isinstance(data, Package) else name, data)
    run.end()
    return caplog.text


def test_a_sound_model_is_reported_as_sound(caplog: pytest.LogCaptureFixture) -> None:
    report = BROKEN | {"findings": [FINDING | {"severity": "info"}]}
    text = summarize(caplog, validation.create_pipeline(), report)
    assert "the model is sound" in text
    assert "--pipelines data_engineering" in text


def test_each_problem_is_shown_with_its_place_and_fix(caplog: pytest.LogCaptureFixture) -> None:
    text = summarize(caplog, validation.create_pipeline(), BROKEN)
    assert all(part in text for part in ("1 problem found", "It sees the future.", "model.py:3", "Mask it."))


def test_a_model_with_an_error_is_to_be_fixed_next(caplog: pytest.LogCaptureFixture) -> None:
    text = summarize(caplog, validation.create_pipeline(), BROKEN)
    assert "Next: fix the model, export it again, and run: kedro run --pipelines validation" in text
    assert "data_engineering" not in text


def test_the_next_command_is_given_as_this_one_was(caplog: pytest.LogCaptureFixture) -> None:
    given = {"env": "standard", "runtime_params": {"model": {"source": "my models/gpt"}, "data": {"streaming": True}}}
    text = summarize(caplog, data_engineering.create_pipeline(), make_splits(), **given)
    assert (
        "Next: kedro run --pipelines training --env standard "
        "--params 'model.source=my models/gpt,data.streaming=true'" in text
    )


def test_a_search_shows_its_result_and_how_to_train_with_it(caplog: pytest.LogCaptureFixture) -> None:
    comparison = {"verdict": "The winner beats the default configuration.", "is_better": True, "steps": 40}
    text = summarize(
        caplog,
        tuning.create_pipeline(),
        comparison,
        entries={"study": StudyDataset(filepath="data/06_models/base/tuning/study.db")},
        runtime_params={"model": {"source": "x"}},
    )
    assert "Search: The winner beats the default configuration." in text
    assert "06_models/base" in text
    assert "kedro run --pipelines training --params model.source=x,training.use_best=true" in text


def test_a_package_can_be_tried_next(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/inference.py").touch()
    (tmp_path / "made/manifest.json").write_text("{}")
    package = Package(tmp_path / "made", {"formats": [{"format": "onnx", "status": "verified"}]})
    folder = tmp_path / "07_model_output/gpt"
    dataset = PackageDataset(filepath=str(folder))
    dataset.save(package)
    text = summarize(
        caplog,
        deployment.create_pipeline(),
        package,
        PUBLICATION,
        data_dir=str(tmp_path),
        entries={"model_package": dataset},
    )
    assert "Package: onnx verified." in text
    assert f"Try it: python {folder}/inference.py" in text


def test_a_publication_is_shown_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    done = PUBLICATION | {"published": True, "url": "https://hub/alice/gpt", "tag": "v2"}
    assert "Published: https://hub/alice/gpt v2\n" in summarize(caplog, deployment.create_pipeline(), done)


def test_a_package_that_was_not_published_is_not_shown_as_published(caplog: pytest.LogCaptureFixture) -> None:
    assert "Published" not in summarize(caplog, deployment.create_pipeline(), PUBLICATION)


def test_a_notebook_names_no_next_command(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer_foundry.hooks.summary.in_notebook", lambda: True)
    assert "Next" not in summarize(caplog, training.create_pipeline(), STARTED)


def test_the_report_is_named_where_there_is_one(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "08_reporting" / "gpt" / "report.html"
    path.parent.mkdir(parents=True)
    path.touch()
    assert str(path) in summarize(caplog, training.create_pipeline(), STARTED, data_dir=str(tmp_path))


def test_data_lead_on_to_training(caplog: pytest.LogCaptureFixture) -> None:
    text = summarize(caplog, data_engineering.create_pipeline(), make_splits())
    assert "data/05_model_input/base" in text
    assert "--pipelines training" in text


def test_training_shows_how_good_the_model_is(caplog: pytest.LogCaptureFixture) -> None:
    evaluation = {
        "step": 10,
        "validation": {"loss": 2.0, "targets": 10382.0},
        "comparisons": [{"sentence": "loss 2.000 beats a bigram model (2.500)"}],
    }
    text = summarize(caplog, training.create_pipeline(), STARTED, evaluation)
    assert "loss 2.000 beats a bigram model (2.500)" in text
    assert "loss 2, targets 10,382" in text
    assert "data/06_models/gpt" in text
    assert "--pipelines deployment" in text
