"""``kedro plan`` refuses what ``kedro run`` refuses, and shows every stage that was chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node, pipeline

from tests.hooks.runs import make_checkpoint
from transformer_foundry.cli import cli
from transformer_foundry.cli.plan.stages import STAGES, plan_stages
from transformer_foundry.core.training import Started
from transformer_foundry.datasets import AtomicJSONDataset, ModelExportDataset, TrainingRunDataset
from transformer_foundry.hooks.run_context import function_of
from transformer_foundry.pipeline_registry import register_pipelines
from transformer_foundry.pipelines import training, validation
from transformer_foundry.pipelines.stages import stage

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)


def test_every_stage_is_a_node_of_a_pipeline() -> None:
    functions = {function_of(node) for pipeline in register_pipelines().values() for node in pipeline.nodes}
    assert {function for function, _ in STAGES.values()} <= functions


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--namespaces", "deployment"), "Missing for this run: data_profile, evaluation"),
        (("--runner", "ParallelRunner"), "ParallelRunner uses several processes"),
        (("--load-versions", "evaluation:2020-01-01T00.00.00.000Z"), "evaluation has no versions"),
    ],
)
def test_a_plan_refuses_what_a_run_refuses(command: str, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, [command, *options, "--params", f"data_dir={tmp_path / 'data'}"])
    assert result.exit_code == 2, result.output
    assert said in result.output + result.stderr
    assert not list(tmp_path.iterdir())


def test_a_type_that_does_not_exist_is_refused_as_by_a_run(tmp_path: Path) -> None:
    catalog = "evaluation: {type: transformer_foundry.datasets.AtomicJSONDatase, filepath: x.json}"
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "catalog.yml").write_text(catalog)
    (tmp_path / "base").symlink_to(PROJECT / "conf" / "base")
    given = ["--conf-source", str(tmp_path), "--params", f"data_dir={tmp_path / 'data'}"]
    result = CliRunner().invoke(cli, ["plan", *given])
    assert result.exit_code == 2, result.output
    assert "AtomicJSONDatase" in result.stderr


def entries(folder: Path) -> DataCatalog:
    export = ModelExportDataset(source="data/01_raw/exports/gpt", cache_dir=str(folder))
    runs = {f"{side}previous_run": TrainingRunDataset(filepath=str(folder / f"run{side}")) for side in ("", "second.")}
    report = AtomicJSONDataset(filepath=str(folder / "report.json"))
    return DataCatalog({"model_export": export, "validation_report": report, **runs})


def plan(pipeline: Pipeline, folder: Path, running: Pipeline | None = None, **parameters: Any) -> dict[str, str]:
    rows = plan_stages(pipeline, pipeline if running is None else running, entries(folder), parameters)
    return {label: what for label, what, _ in rows}


def test_a_training_with_a_namespace_has_stages_of_its_own(tmp_path: Path) -> None:
    second = pipeline(training.create_pipeline(), namespace="second", inputs={"model_export", "token_splits"})
    both = stage("validation", validation.create_pipeline()) + stage("training", training.create_pipeline()) + second
    assert plan(both, tmp_path, second={"training": {"max_steps": 3}}) == {
        "validation": "would run",
        "training": "would start",
        "second.training": "would start",
        "evaluation": "would run",
        "second.evaluation": "would run",
    }


def test_a_stage_has_the_entries_that_its_node_has_under_any_name(tmp_path: Path) -> None:
    renamed = pipeline(
        training.create_pipeline(),
        inputs={"previous_run": "earlier_gpt", "model_export": "drawn"},
        outputs={"training_run": "gpt_run", "evaluation": "scores"},
        parameters={"params:training": "params:slow"},
    )
    catalog = entries(tmp_path)
    catalog["earlier_gpt"] = catalog["gpt_run"] = TrainingRunDataset(filepath=str(tmp_path / "gpt-second"))
    for name in ("scores", "samples"):
        catalog[name] = AtomicJSONDataset(filepath=str(tmp_path / f"{name}.json"))
    catalog["scores"].save({"step": 3})
    given = {"run": {"name": "gpt"}, "slow": {"max_steps": 7}, "training": {"max_steps": 3}}
    assert plan_stages(renamed, renamed, catalog, given) == [
        ("training", "would start", "gpt-second for 7 steps, from step 0"),
        ("evaluation", "would be compared", "after training: made again if that gives something else"),
    ]
    trained = renamed.filter(node_names=["evaluate_model"])
    assert plan_stages(trained, trained, catalog, given)[0][2] == "no samples of gpt-second yet"


@pytest.mark.parametrize(
    ("step", "reason", "max_steps", "expected"),
    [
        (122, "interrupt", 200, ("would resume", "run at step 122 of 200, because it was interrupted")),
        (122, "interrupt", 300, ("would resume", "run at step 122 of 300, because it was interrupted")),
        (120, "steps", 200, ("would resume", "run at step 120 of 200, because it is not finished")),
        (200, "end", 300, ("would resume", "run at step 200 of 300, because training.max_steps is 300")),
        (150, "end", 300, ("would resume", "run at step 150 of 300, because training.max_steps is 300")),
        (150, "end", 200, ("up to date", "run, step 150 of 200")),  # it stopped early
        (200, "end", 200, ("up to date", "run, step 200 of 200")),
        (200, "end", 150, ("up to date", "run is at step 200, after the 150 that are asked for")),
    ],
)
def test_a_plan_says_why_a_training_is_continued_or_not(
    step: int, reason: str, max_steps: int, expected: tuple[str, str], tmp_path: Path
) -> None:
    run = TrainingRunDataset(filepath=str(tmp_path / "run"))
    run.save(Started(0, 200, False, {"identity": {}, "total_steps": 200}))
    run.save(dataclasses.replace(make_checkpoint(step), reason=reason))
    run.wait()
    trained = training.create_pipeline().filter(node_names=["train_model"])
    rows = plan_stages(trained, trained, entries(tmp_path), {"training": {"max_steps": max_steps}})
    assert rows == [("training", *expected)]


def test_nodes_of_the_users_own_are_shown_one_by_one(tmp_path: Path) -> None:
    own = Pipeline([node(len, "token_splits", "count", name="count_tokens")])
    both = stage("training", training.create_pipeline()) + own
    assert plan(both, tmp_path)["count_tokens"] == "would run"


def test_what_only_missing_outputs_leaves_out_is_skipped(tmp_path: Path) -> None:
    trained = stage("training", training.create_pipeline())
    planned = plan(trained, tmp_path, running=trained.filter(node_names=["train_model"]))
    assert planned == {"training": "would start", "evaluation": "skipped"}


def test_without_the_hooks_that_supply_earlier_results_they_are_made_again(tmp_path: Path) -> None:
    trained = stage("validation", validation.create_pipeline()) + stage("training", training.create_pipeline())
    rows = plan_stages(trained, trained, entries(tmp_path), {}, supplies_earlier=False)
    assert {label: why for label, _, why in rows if "KedroHooks" in why}.keys() == {"validation", "evaluation"}
