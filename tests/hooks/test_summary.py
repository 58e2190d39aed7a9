"""The end of a command says what was made, where, and what comes next."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from kedro.pipeline import Pipeline

from tests.core.training.tiny import make_splits
from tests.hooks.runs import Run
from transformer_foundry.core.evaluation.assess import compare_with_baselines
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.publishing.package.package import list_files
from transformer_foundry.core.training import Started
from transformer_foundry.core.training.checkpointing.directory import best_origin
from transformer_foundry.datasets import (
    OptionalJSONDataset,
    PackageDataset,
    StudyDataset,
    TokenizerDataset,
    TokenSplitsDataset,
)
from transformer_foundry.hooks import SummaryCallback
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation

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
    sections: dict[str, Any] | None = None,
    **run_params: Any,
) -> str:
    """Return what is logged of a pipeline that has saved these results."""
    caplog.set_level(logging.INFO)
    run = Run(
        Path(data_dir), SummaryCallback(), sections={"run": {"name": "gpt", "preparation": "base"}, **(sections or {})}
    )
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


@pytest.mark.parametrize(("place", "label"), [("memory://tok", "tokens"), ("{data}/tok", "tokenizer, tokens")])
def test_only_prepared_data_on_this_machine_have_a_folder(
    place: str, label: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = TokenizerDataset(filepath=place.format(data=tmp_path))
    tokens = TokenSplitsDataset(filepath=str(tmp_path / "tokens"))
    entries = {"tokenizer": tokenizer, "token_splits": tokens}
    splits = make_splits(tmp_path / "made")
    text = summarize(caplog, data_engineering.create_pipeline(), splits, data_dir=str(tmp_path), entries=entries)
    assert f"{label:<21} {tmp_path}" in text


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


def test_after_a_search_one_model_is_trained_whatever_models_are_to_be_compared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = summarize(
        caplog,
        tuning.create_pipeline(),
        {"verdict": "The winner beats the default configuration.", "is_better": True, "steps": 40},
        entries={"study": StudyDataset(filepath="data/06_models/base/tuning/study.db")},
        sections={"benchmark": {"models": ["gpt2", "llama"]}},
    )
    assert "--params 'training.use_best=true,benchmark.models=[]'" in text


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
    listed = {"files": {"inference.py": {"sha256": hashlib.sha256(b"").hexdigest()}}}
    (tmp_path / "made/manifest.json").write_text(json.dumps(listed))
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
    assert f" {folder}/inference.py" in text.partition("Try it: ")[2]


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


def test_the_verdict_is_in_words_with_a_sample(caplog: pytest.LogCaptureFixture) -> None:
    comparisons = compare_with_baselines({"loss": 2.0}, {"bigram_loss": 2.5})
    evaluation = {"step": 10, "validation": {"loss": 2.0}, "comparisons": comparisons}
    samples = {"step": 10, "task": "causal_lm", "samples": ["Name: Fiji >> Climate: hot", "Name: Chad >> dry"]}
    text = summarize(caplog, training.create_pipeline(), STARTED, evaluation, samples)
    assert "After training: Name: Fiji >> Climate: hot\n" in text
    assert "Chad" not in text
    assert "The model has learned more than counting: it beats a bigram model." in text
    assert "To train longer" not in text


def test_a_model_that_has_not_learned_enough_is_to_be_trained_longer(caplog: pytest.LogCaptureFixture) -> None:
    baselines = {"majority_accuracy": 0.25, "naive_bayes_accuracy": 0.592}
    comparisons = compare_with_baselines({"accuracy": 0.474}, baselines)
    evaluation = {"step": 10, "validation": {"accuracy": 0.474}, "comparisons": comparisons}
    given = {"runtime_params": {"data": {"source": "a.csv"}}}
    text = summarize(caplog, training.create_pipeline(), STARTED, evaluation, **given)
    assert "It beats the most frequent class, but it does not beat naive Bayes" in text
    assert "To train longer: kedro run --params data.source=a.csv,preset=standard" in text
    caplog.clear()
    given = {"runtime_params": {"training": {"max_steps": 200}}, "sections": {"training": {"max_steps": 200}}}
    text = summarize(caplog, training.create_pipeline(), STARTED, evaluation, **given)
    assert "does not beat naive Bayes" in text
    assert "To train longer" not in text


def finished(data_dir: Path) -> None:
    """A run that is trained to its end, in the folder that the catalog gives it."""
    run = Run(data_dir, total_steps=4)
    run.start()
    run.checkpoint(4)


def package_of(data_dir: Path, origin: dict[str, Any]) -> Path:
    folder = data_dir / "07_model_output/gpt"
    folder.mkdir(parents=True)
    (folder / "inference.py").touch()
    (folder / "manifest.json").write_text(json.dumps({"made_from": origin, "files": list_files(folder)}))
    return folder


def test_a_finished_training_leads_on_to_its_package(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    finished(tmp_path)
    text = summarize(caplog, training.create_pipeline(), make_splits(), data_dir=str(tmp_path))
    assert "Next: kedro run --pipelines deployment" in text
    assert "--pipelines training" not in text


def test_a_finished_training_with_a_package_can_be_tried(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    finished(tmp_path)
    folder = package_of(tmp_path, best_origin(tmp_path / "06_models/gpt"))
    text = summarize(caplog, training.create_pipeline(), data_dir=str(tmp_path))
    program, _, rest = text.partition("Try it: ")[2].partition(" ")
    assert Path(program).absolute() == Path(sys.executable)  # outside the virtual environment, "python" is another one
    assert rest.startswith(f"{folder}/inference.py")
    assert "Next" not in text


def test_a_package_of_another_step_is_made_again_next(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    finished(tmp_path)
    package_of(tmp_path, best_origin(tmp_path / "06_models/gpt") | {"step": 2})
    assert "--pipelines deployment" in summarize(caplog, training.create_pipeline(), data_dir=str(tmp_path))


def test_a_damaged_package_is_made_again_next(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    finished(tmp_path)
    folder = package_of(tmp_path, best_origin(tmp_path / "06_models/gpt"))
    (folder / "inference.py").write_text("# edited")
    assert "--pipelines deployment" in summarize(caplog, training.create_pipeline(), data_dir=str(tmp_path))


def test_a_package_without_a_program_is_found_in_the_registry(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    text = summarize(caplog, deployment.create_pipeline(), PUBLICATION, data_dir=str(tmp_path))
    assert f"Next: kedro models list --data-dir {tmp_path}" in text


def test_a_comparison_of_models_leads_to_no_training(caplog: pytest.LogCaptureFixture) -> None:
    assert "Next" not in summarize(caplog, comparison.create_pipeline(), make_splits(), {"models": []})


def test_a_search_that_changed_the_model_is_not_trained_as_it_is(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    best = tmp_path / "best_parameters.json"
    best.write_text(json.dumps({"parameters": {}, "model_overrides": {"n_layer": 3}}))
    entries = {
        "study": StudyDataset(filepath=str(tmp_path / "study.db")),
        "best_parameters": OptionalJSONDataset(filepath=str(best)),
    }
    text = summarize(caplog, tuning.create_pipeline(), entries=entries, data_dir=str(tmp_path))
    assert f"Next: write model_overrides of {best} into config.json" in text
    assert "use_best" not in text


def test_tokens_that_are_up_to_date_lead_on_to_training(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = Run(Path("data"), SummaryCallback(), sections={"run": {"name": "gpt", "preparation": "base"}})
    run.begin(data_engineering.create_pipeline().inputs(), data_engineering.create_pipeline().all_outputs())
    run.read("token_splits", make_splits())
    run.end()
    assert "Next: kedro run --pipelines training" in caplog.text


def reproduce(tmp_path: Path, caplog: pytest.LogCaptureFixture, **now: Any) -> list[str]:
    """Return the lines that are logged before the first step of a run that is reproduced."""
    caplog.set_level(logging.INFO)
    recorded = {"identity": {"data": "3f"}, "parameters": {"training": {"seed": 1}}, "environment": {"python": "3.11"}}
    first = tmp_path / "first" / "manifest.json"
    first.parent.mkdir()
    first.write_text(json.dumps(recorded))
    run = Run(tmp_path / "data", SummaryCallback(), sections={"run": {"name": "gpt", "reproduce": str(first)}})
    run.begin()
    caplog.clear()
    run.show("training_run", Started(0, 10, False, recorded | now))
    return [line for record in caplog.records for line in record.getMessage().splitlines()]


def test_a_run_to_be_reproduced_names_changed_data_and_versions_before_it_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = reproduce(tmp_path, caplog, identity={"data": "77"}, environment={"python": "3.13"})
    assert lines == [
        "The run to be reproduced had other inputs: its result will differ.",
        "  identity.data: 3f then, 77 now",
        "  python: 3.11 then, 3.13 now",
    ]


def test_a_run_to_be_reproduced_with_the_same_inputs_says_nothing_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert reproduce(tmp_path, caplog) == []
