"""Kedro-viz shows the status of the last run, and a long training writes little for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest
from kedro.framework.hooks import specs
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node, pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset
from kedro_viz.integrations.kedro.hooks_utils import hash_node

from transformer_foundry.core.training import Progress, Started
from transformer_foundry.datasets import TrainingRunDataset
from transformer_foundry.hooks import VizStatusHooks

STEPS = 5000


def train(_: object) -> Iterator[Any]:
    yield Started(0, STEPS, False, {"identity": {}, "sessions": [{}]})
    for step in range(1, STEPS + 1):
        yield Progress(step, STEPS, {"train/loss": 1.0}, ())


def fail(_: object) -> None:
    raise ValueError("no memory")


NODES = pipeline(
    [
        node(train, "text", "training_run", name="train"),
        node(lambda _: {"loss": 1.0}, "training_run", "quality", name="evaluate"),
    ],
    namespace="training",
    prefix_datasets_with_namespace=False,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.kedro]\npackage_name = 'x'\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(nodes: Pipeline, hooks: VizStatusHooks, runner: str = str(SequentialRunner()), **filters: Any) -> None:
    """Run as a session of Kedro does."""
    plugins = pluggy.PluginManager("kedro")
    for spec in (specs.NodeSpecs, specs.PipelineSpecs, specs.DatasetSpecs):
        plugins.add_hookspecs(spec)
    plugins.register(hooks)
    catalog = DataCatalog(
        {
            "text": MemoryDataset("text"),
            "training_run": TrainingRunDataset(filepath="run"),
            "quality": JSONDataset(filepath="quality.json"),
        }
    )
    asked = {"run_params": {"runner": runner, "pipeline_names": None, **filters}, "pipeline": nodes, "catalog": catalog}
    plugins.hook.before_pipeline_run(**asked)
    try:
        SequentialRunner().run(nodes, catalog, plugins)  # type: ignore[arg-type]
    except ValueError as error:
        plugins.hook.on_pipeline_error(error=error, **asked)
    else:
        plugins.hook.after_pipeline_run(run_result={}, **asked)


def shown() -> dict[str, Any]:
    """What the server of kedro-viz answers to its page."""
    from kedro_viz.api.rest.responses.run_events import get_run_status_response

    answer: dict[str, Any] = get_run_status_response().model_dump(mode="json")
    return answer


def test_a_long_training_writes_little_and_kedro_viz_shows_its_status(project: Path) -> None:
    run(NODES, VizStatusHooks())
    status = shown()
    assert status["pipeline"]["status"] == "success"
    assert {item["name"]: item["status"] for item in status["datasets"].values()}.keys() >= {"training_run", "quality"}
    assert [status["nodes"][hash_node(node)]["status"] for node in NODES.nodes] == ["success", "success"]
    assert sum(path.stat().st_size for path in (project / ".viz").iterdir()) < 5_000


def test_the_node_that_failed_is_shown(project: Path) -> None:
    nodes = pipeline([node(fail, "text", "quality", name="evaluate")])
    run(nodes, VizStatusHooks())
    assert shown()["nodes"][hash_node(nodes.nodes[0])]["error"]["message"] == "no memory"


def test_a_second_run_of_a_process_shows_nothing_of_the_first(project: Path) -> None:
    hooks = VizStatusHooks()
    run(pipeline([node(fail, "text", "quality", name="evaluate")]), hooks)
    run(pipeline([node(lambda _: {}, "text", "quality", name="evaluate")]), hooks)
    assert shown()["pipeline"]["status"] == "success"


@pytest.mark.parametrize("given", [{"runner": "ThreadRunner"}, {"tags": ["training"]}])
def test_runs_that_kedro_viz_does_not_follow_record_nothing_without_a_warning(
    project: Path, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run(pipeline([node(lambda _: {}, "text", "quality", name="evaluate")]), VizStatusHooks(), **given)
    assert not (project / ".viz").exists()
    assert caplog.text == ""


def test_outside_of_a_project_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    run(pipeline([node(lambda _: {}, "text", "quality", name="evaluate")]), VizStatusHooks())
    assert not (tmp_path / ".viz").exists()
    assert caplog.text == ""
