"""Callbacks see what Kedro saves, whatever the catalog calls it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest
from kedro.framework.hooks import specs
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import AbstractRunner, SequentialRunner, ThreadRunner
from kedro_datasets.json import JSONDataset

from tests.core.training.tiny import make_model, make_options, make_splits
from tests.hooks.runs import Run
from transformer_foundry.core.base.errors import CheckpointError, DataError
from transformer_foundry.core.training import Checkpoint, Progress, fit
from transformer_foundry.datasets import TrainingRunDataset
from transformer_foundry.hooks import Callback, KedroHooks, RunContext
from transformer_foundry.hooks.results import Evaluation, ModelComparison, Samples, is_result

EVALUATION = {"step": 4, "validation": {"loss": 2.5}, "comparisons": []}
REPORT = {"status": "pass", "kind": "decoder-only", "seconds": 1.5, "findings": []}


class FileTracker(Callback):
    """A tracker in one class: what a new one takes."""

    name = "The file tracker"

    def on_run_start(self, context: RunContext) -> None:
        self.path = context.data_dir / f"{context.paths.name}.jsonl"

    def on_progress(self, progress: Progress) -> None:
        self._write({"step": progress.step, **progress.metrics})

    def on_evaluation(self, evaluation: Evaluation, *, is_new: bool) -> None:
        self._write({"step": evaluation["step"], "final/loss": evaluation["validation"]["loss"]})

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def train_with_kedro(data_dir: Path, *callbacks: Callback, run_entry: str, evaluation_entry: str) -> None:
    """Train for four steps and evaluate, with Kedro's own runner."""
    plugins = pluggy.PluginManager("kedro")
    for spec in (specs.KedroContextSpecs, specs.NodeSpecs, specs.PipelineSpecs, specs.DatasetSpecs):
        plugins.add_hookspecs(spec)
    plugins.register(KedroHooks(callbacks))
    catalog = DataCatalog(
        {
            "token_splits": MemoryDataset(make_splits(), copy_mode="assign"),
            run_entry: TrainingRunDataset(filepath=str(data_dir / "06_models" / "gpt")),
            evaluation_entry: JSONDataset(filepath=str(data_dir / "evaluation.json")),
        }
    )

    def train(splits: Any) -> Any:
        yield from fit(make_model(), splits, make_options(max_steps=4, logging_steps=1))

    nodes = pipeline(
        [
            node(train, "token_splits", run_entry, name="train"),
            node(lambda _: EVALUATION, run_entry, evaluation_entry, name="evaluate"),
        ]
    )
    config = {"parameters": {"data_dir": str(data_dir), "run": {"name": "gpt"}}}
    plugins.hook.after_context_created(context=SimpleNamespace(config_loader=config, project_path=None))
    plugins.hook.before_pipeline_run(run_params={}, pipeline=nodes, catalog=catalog)
    SequentialRunner().run(nodes, catalog, plugins)  # type: ignore[arg-type]
    plugins.hook.after_pipeline_run(run_params={}, run_result={}, pipeline=nodes, catalog=catalog)


@pytest.mark.parametrize(
    ("run_entry", "evaluation_entry"), [("training_run", "evaluation"), ("gpt_training", "quality_report")]
)
def test_a_new_tracker_is_one_class_under_any_names_of_the_catalog(
    tmp_path: Path, run_entry: str, evaluation_entry: str
) -> None:
    train_with_kedro(tmp_path, FileTracker(), run_entry=run_entry, evaluation_entry=evaluation_entry)
    rows = [json.loads(line) for line in (tmp_path / "gpt.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]
    assert rows[-1] == {"step": 4, "final/loss": 2.5}


class Recorder(Callback):
    """Notes its calls in a list that callbacks share."""

    def __init__(self, name: str, calls: list[tuple[str, str]]) -> None:
        self._label, self._calls = name, calls

    def _note(self, call: str) -> None:
        self._calls.append((self._label, call))

    def on_run_start(self, context: RunContext) -> None:
        self._note("start")

    def on_validation(self, report: Any, *, is_new: bool) -> None:
        self._note("new report" if is_new else "earlier report")

    def on_progress(self, progress: Progress) -> None:
        self._note(f"step {progress.step}")

    def on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        self._note(f"{folder.name[:13]} {checkpoint.step}")

    def on_run_end(self) -> None:
        self._note("end")

    def on_run_error(self, error: Exception) -> None:
        self._note(f"error {error}")

    def on_disabled(self) -> None:
        self._note("disabled")


def recorded(tmp_path: Path, *kinds: type[Recorder]) -> tuple[Run, list[tuple[str, str]]]:
    calls: list[tuple[str, str]] = []
    recorders = [kind(label, calls) for label, kind in zip("ab", kinds, strict=False)]
    return Run(tmp_path / "data", *recorders), calls


def test_callbacks_nest_like_with_statements(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Recorder, Recorder)
    run.begin()
    run.start()
    run.progress(10)
    run.end()
    assert calls == [("a", "start"), ("b", "start"), ("b", "step 10"), ("a", "step 10"), ("b", "end"), ("a", "end")]


def test_a_checkpoint_is_announced_with_its_folder(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Recorder)
    run.begin()
    run.start()
    run.checkpoint(10)
    assert calls[1:] == [("a", "step-00000010 10")]


def test_an_error_is_announced_instead_of_the_end(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Recorder)
    run.begin()
    run.fail(ValueError("no memory"))
    assert calls == [("a", "start"), ("a", "error no memory")]


def test_a_report_of_an_earlier_command_is_announced_once(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Recorder)
    run.begin()
    run.read("report_of_checks", REPORT)
    run.read("report_of_checks", REPORT)
    assert calls == [("a", "start"), ("a", "earlier report")]


def test_a_report_that_is_saved_and_read_is_announced_once(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Recorder)
    run.begin()
    run.show("report_of_checks", REPORT)
    run.read("report_of_checks", REPORT)
    assert calls == [("a", "start"), ("a", "new report")]


class Failing(Recorder):
    name = "A broken tracker"

    def on_progress(self, progress: Progress) -> None:
        raise ZeroDivisionError(f"step {progress.step}")


def test_a_callback_that_fails_is_off_after_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, calls = recorded(tmp_path, Recorder, Failing)
    run.begin()
    run.start()
    run.progress(10)
    run.progress(20)
    run.end()
    warning = "A broken tracker is off for the rest of this run: ZeroDivisionError: step 10"
    assert [record.getMessage() for record in caplog.records] == [warning]
    assert [call for label, call in calls if label == "b"] == ["start", "disabled"]
    assert [call for label, call in calls if label == "a"] == ["start", "step 10", "step 20", "end"]


class Undecided(Recorder):
    name = "A tracker without options"

    def is_enabled(self, context: RunContext) -> bool:
        return bool(context.options(Undecided))


def test_a_callback_that_cannot_decide_whether_it_takes_part_is_off_after_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, calls = recorded(tmp_path, Undecided)
    run.begin()
    run.end()
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("A tracker without options is off for the rest of this run: AssertionError: Undecided is")
    assert calls == [("a", "disabled")]


def test_a_callback_that_failed_is_back_in_the_next_run(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Failing)
    for _ in range(2):
        run.begin()
        run.start()
        run.progress(10)
        run.end()
    assert calls == [("a", "start"), ("a", "disabled")] * 2


class Refusing(Recorder):
    name = "A check"

    def on_run_start(self, context: RunContext) -> None:
        raise DataError("The disk is full.", "Free space was expected.", "Delete something.")


class RequiredCheck(Refusing):
    is_required = True


def test_what_was_started_before_a_refusal_is_closed(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Recorder, RequiredCheck)
    with pytest.raises(DataError):
        run.begin()
    assert calls == [("a", "start"), ("a", "disabled")]


@pytest.mark.parametrize(
    "foreign", [{"models": 1}, {"models": [1, 2]}, {"step": 1, "task": "mine", "samples": 7, "extra": 1}]
)
def test_a_mapping_of_a_users_own_node_is_no_result_of_ours(foreign: dict[str, Any]) -> None:
    assert not any(is_result(foreign, kind) for kind in (ModelComparison, Samples, Evaluation))


def test_a_required_callback_can_refuse_a_run(tmp_path: Path) -> None:
    run, _ = recorded(tmp_path, RequiredCheck)
    with pytest.raises(DataError, match="disk is full"):
        run.begin()


def test_an_optional_callback_cannot_refuse_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, _ = recorded(tmp_path, Refusing)
    run.begin()
    assert "A check is off for the rest of this run" in caplog.text


class Disabled(Recorder):
    def is_enabled(self, context: RunContext) -> bool:
        return False


def test_a_callback_that_is_not_enabled_is_never_called(tmp_path: Path) -> None:
    run, calls = recorded(tmp_path, Disabled)
    run.begin()
    run.start()
    run.end()
    assert calls == []


class Required(Recorder):
    is_required = True


def test_other_processes_start_only_what_is_required_and_announce_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    run, calls = recorded(tmp_path, Required, Recorder)
    run.begin()
    run.show("training_run", Progress(10, 100, {}))
    run.end()
    assert calls == [("a", "start")]


def test_other_processes_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run, _ = recorded(tmp_path)
    run.begin()
    run.catalog.save("training_run", Progress(10, 100, {}))
    assert not run.data_dir.exists()


class Results(Callback):
    """Notes which results are new."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def on_validation(self, report: Any, *, is_new: bool) -> None:
        self.seen.append(("validation", is_new))

    def on_evaluation(self, evaluation: Evaluation, *, is_new: bool) -> None:
        self.seen.append(("evaluation", is_new))

    def on_figure(self, name: str, figure: Any, *, is_of_training: bool, is_new: bool) -> None:
        self.seen.append((name, is_new))


def test_a_result_that_a_node_has_read_and_kept_is_not_new(tmp_path: Path) -> None:
    results = Results()
    run = Run(tmp_path / "data", results)
    run.begin()
    run.read("previous_evaluation", EVALUATION)
    run.show("evaluation", dict(EVALUATION))
    run.show("evaluation", EVALUATION | {"step": 8})
    assert results.seen == [("evaluation", False), ("evaluation", True)]


def test_a_figure_that_is_drawn_again_is_as_new_as_what_it_shows(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    results = Results()
    run = Run(tmp_path / "data", results)
    run.begin()
    run.show("loss_figure", Figure(), ["training_run"])
    run.start()
    run.show("loss_figure", Figure(), ["training_run"])
    run.progress(10)
    run.show("loss_figure", Figure(), ["training_run"])
    assert [is_new for _, is_new in results.seen] == [False, False, True]


def test_a_figure_of_a_users_own_node_is_new(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    results = Results()
    run = Run(tmp_path / "data", results)
    run.begin()
    run.show("shop.sales_figure", Figure(), ["sales"])
    assert results.seen == [("sales_figure", True)]


def test_arrays_that_a_node_has_read_are_no_reason_to_fail(tmp_path: Path) -> None:
    import numpy as np

    run = Run(tmp_path / "data", Results())
    run.begin()
    run.read("weights", {"a": np.ones(2)})
    run.show("scaled", {"a": np.ones(2)})


@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner(max_workers=2)])
def test_kedros_runners_tell_a_kept_result_from_a_new_one(tmp_path: Path, runner: AbstractRunner) -> None:
    results = Results()
    plugins = pluggy.PluginManager("kedro")
    for spec in (specs.KedroContextSpecs, specs.NodeSpecs, specs.PipelineSpecs, specs.DatasetSpecs):
        plugins.add_hookspecs(spec)
    plugins.register(KedroHooks([results]))
    catalog = DataCatalog({"previous": JSONDataset(filepath=str(tmp_path / "kept.json"))})
    catalog.save("previous", EVALUATION)
    nodes = pipeline(
        [
            node(lambda kept: kept, "previous", "kept", name="keep"),
            node(lambda kept: kept | {"step": 9}, "kept", "made", name="make"),
        ]
    )
    plugins.hook.after_context_created(context=SimpleNamespace(config_loader={"parameters": {}}, project_path=None))
    plugins.hook.before_pipeline_run(run_params={}, pipeline=nodes, catalog=catalog)
    runner.run(nodes, catalog, plugins)  # type: ignore[arg-type]
    plugins.hook.after_pipeline_run(run_params={}, run_result={}, pipeline=nodes, catalog=catalog)
    assert results.seen == [("evaluation", False), ("evaluation", True)]


@pytest.mark.parametrize(("folder", "is_fixed"), [("kept", True), ("gpt-second", False), ("nameless", True)])
def test_another_path_is_advised_where_the_name_of_the_run_changes_none(
    tmp_path: Path, folder: str, *, is_fixed: bool
) -> None:
    run = Run(tmp_path)
    run.catalog = DataCatalog({"training_run": TrainingRunDataset(filepath=str(tmp_path / folder))})
    if folder == "nameless":
        del run.parameters["run"]
    run.begin()
    error = CheckpointError("Seed 1 is 2.", "", "Set it, or start another run with run.name=NEW.")
    run.fail(error)
    other = "Set it, or start another run: set another filepath of training_run in conf/."
    assert error.remedy == (other if is_fixed else "Set it, or start another run with run.name=NEW.")
