"""Every option of kedro run refuses what is not there, in at most three lines with the nearest name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import pipeline

from transformer_foundry.cli import cli, run
from transformer_foundry.cli.run_selection import check_selection
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.hooks.preflight.processes import require_alone
from transformer_foundry.pipelines import training

PROJECT = Path(__file__).parents[2]

BAD = [
    (("--from-inputs", "token_split"), "from_inputs", "Did you mean 'token_splits'?"),
    (("--to-outputs", "evaluatio"), "to_outputs", "Did you mean 'evaluation'?"),
    (("--to-outputs", "model_export"), "to_outputs", "no dataset named 'model_export'"),
    (("--from-nodes", "train_mode"), "from_nodes", "Did you mean 'train_model'?"),
    (("--to-nodes", "train_mode"), "to_nodes", "Did you mean 'train_model'?"),
    (("--nodes", "training.draw_curve"), "node_names", "Did you mean 'training.draw_curves'?"),
    (("--nodes", "draw_curve"), "node_names", "Did you mean 'draw_curves'?"),
    (("--pipelines", "validation", "--nodes", "train_model"), "node_names", "no node named 'train_model'"),
    (("--namespaces", "validation", "--nodes", "train_model"), "node_names", "No node is in --nodes train_model"),
    (("--nodes", "judge_model,judge_model"), "node_names", "has a name twice"),
    (("--nodes", "compare_models"), "node_names", "Use --pipelines comparison"),
    (("--to-outputs", "comparison_results"), "to_outputs", "Use --pipelines comparison"),
    (("--tags", "comparison"), "tags", "Use --pipelines comparison"),
    (("--namespaces", "tuning"), "namespaces", "Use --pipelines tuning"),
    (
        ("--nodes", "train_model", "--params", "benchmark.models=[a,b]"),
        "node_names",
        "no node named 'train_model' in a comparison, and benchmark.models is set",
    ),
    (
        ("--pipelines", "training", "--namespaces", "training", "--params", "benchmark.models=[a,b]"),
        "namespaces",
        "--params benchmark.models=[].",
    ),
    (("--runner", "ThreadRuner"), "runner", "Did you mean 'ThreadRunner'?"),
    (("--runner", "no.such.Runner"), "runner", "no runner named"),
    (("--runner", "pathlib.Path"), "runner", "which is no runner"),
    (("--runner-params", "max_worker=2", "--runner", "ThreadRunner"), "runner_params", "Did you mean 'max_workers'?"),
    (("--runner-params", "max_workers=0", "--runner", "ThreadRunner"), "runner_params", "max_workers"),
    (("--runner-params", "x"), "runner_params", "must contain a key and a value"),
    (("--async",), "is_async", "--async cannot run train_model."),
    (("--async", "--params", "benchmark.models=[a,b]"), "is_async", "--async cannot run compare_models."),
    (("--async", "--pipelines", "both"), "is_async", "--async cannot run second.train_model, training.train_model."),
    (("--env", "locl"), "env", "Did you mean 'local'?"),
    (("--env", "thorogh"), "env", "Did you mean 'thorough'?"),
    (("--tags", "trainin"), "tags", "Did you mean 'training'?"),
    (("--namespaces", "trainin"), "namespaces", "Did you mean 'training'?"),
    (("--load-versions", "evaluatio:1"), "load_versions", "Did you mean 'evaluation'?"),
    (("--load-versions", "token_splits:1"), "load_versions", "has no versions"),
    (("--load-versions", "x"), "load_versions", "Expected the form"),
    (("--pipeline", "trainning"), "pipeline", "Did you mean 'training'?"),
    (("--pipelines", "validation,trainning"), "pipelines", "Did you mean 'training'?"),
    (("--pipeline", "training", "--pipelines", "tuning"), "pipelines", "Expected one of the two options"),
    (("--config", "no.yml"), "config", "does not exist"),
    (("--config", "{tmp}/list.yml"), "config", "has no section run"),
    (("--config", "{tmp}/broken.yml"), "config", "cannot be read"),
    (("--config", "{tmp}/typo.yml"), "config", "Did you mean 'pipelines'?"),
    (("--conf-source", "nowhere"), "conf_source", "does not exist"),
    (("--conf-source", "{tmp}"), "conf_source", "There is no configuration in"),
    (("--conf-source", "{tmp}/typo.yml"), "conf_source", "There is no configuration in"),
    (("--params", "training.max_step=1"), "params", "Did you mean 'training.max_steps'?"),
    (("--params", "max_steps=1"), "params", "Did you mean 'training.max_steps'"),
    (("--params", "preset=standart"), "params", "Did you mean 'standard'?"),
    (("--params", "training.max_steps"), "params", "not of the form"),
    (("--params", "run.name=a", "--params", "run.name=b"), "params", "sets run.name twice"),
    (("--only-missing-output",), "only_missing_outputs", "Did you mean '--only-missing-outputs'?"),
    (("training",), "", "unexpected extra argument"),
]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)
    second = pipeline(training.create_pipeline(), namespace="second")
    monkeypatch.setitem(pipelines, "both", pipelines["training"] + second)
    (tmp_path / "list.yml").write_text("- run\n")
    (tmp_path / "broken.yml").write_text("run: {\n")
    (tmp_path / "typo.yml").write_text("run: {pipelins: training}\n")


@pytest.mark.parametrize(("arguments", "option", "said"), BAD, ids=[" ".join(row[0]) for row in BAD])
def test_a_wrong_option_is_refused_in_three_lines(
    arguments: tuple[str, ...], option: str, said: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    given = [item.format(tmp=tmp_path) for item in arguments]
    result = CliRunner().invoke(cli, ["run", *given, "--params", f"data_dir={data}"])
    lines = result.output.strip().splitlines()
    assert (result.exit_code, lines[0][:6]) == (2, "error:"), result.output
    assert len(lines) <= 3
    assert said in result.output
    assert len(result.output) < 1000
    assert not data.exists()


BROKEN = [
    ("parameters.yml", "- a\n"),
    ("parameters.yml", "training: {\n"),
    ("parameters.yml", "training: 5\n"),
    ("parameters.yml", "training: {max_steps: '${nope}'}\n"),
    ("parameters.yml", "training: {max_steps: '${globals:nope}'}\n"),
    ("parameters.yml", "x: {y: 1}\nx: {y: 2}\n"),
    ("parameters.yml", "trainig: {max_steps: 1}\n"),
    ("parameters.yml", "preset: 3\n"),
    ("catalog.yml", "evaluation: 3\n"),
    ("catalog.yml", "evaluation: {filepath: x}\n"),
    ("catalog.yml", "evaluation: {type: json.JSONDataset, filepath: '${parameters:run.nam}'}\n"),
    ("catalog.yml", "token_splits: {type: nosuch.Dataset}\n"),
    ("catalog.yml", "token_splits: {type: json.JSONDataset, filepath: x, nosuch: 3}\n"),
    ("catalog.yml", "token_splits: {type: json.JSONDataset, filepath: x, credentials: nosuch}\n"),
]


@pytest.mark.parametrize(("name", "text"), BROKEN, ids=[text.strip() for _, text in BROKEN])
def test_a_broken_configuration_is_refused_in_three_lines(name: str, text: str, tmp_path: Path) -> None:
    conf = Path(shutil.copytree(PROJECT / "conf", tmp_path / "conf"))
    (conf / "local" / name).write_text(text)
    given = ["--conf-source", str(conf), "--nodes", "draw_curves", "--params", f"data_dir={tmp_path / 'data'}"]
    result = CliRunner().invoke(cli, ["run", *given])
    lines = [line for line in result.output.strip().splitlines() if not line.startswith("Running ")]
    assert (result.exit_code, lines[0][:6]) == (2, "error:"), result.output
    assert len(lines) <= 3
    assert not (tmp_path / "data").exists()


def test_every_option_is_in_the_table() -> None:
    assert {str(item.name) for item in run.params} == {row[1] for row in BAD if row[1]}


def test_the_help_lists_all_registered_pipelines() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["run", "--help"]).output.split())
    assert "comparison, data_engineering, deployment, training, tuning, validation" in shown


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "lst"),
        ("models", "list", "--nosuch"),
        ("doctor", "extra"),
        ("catalog", "describe-datasets", "--env", "nosuch"),
        ("catalog", "resolve-patterns", "--pipeline", "trainin"),
        ("registry", "describe", "trainin"),
    ],
)
def test_other_commands_refuse_wrong_options_in_the_same_form(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, command, obj=SimpleNamespace(package_name="transformer_foundry"))
    assert (result.exit_code, result.output[:6]) == (2, "error:")
    assert len(result.output.strip().splitlines()) <= 3


@pytest.mark.parametrize("arguments", [("catalog", "--help"), ("checkpoints", "lst")])
def test_the_program_is_named_as_it_was_started_also_in_the_groups_of_kedro(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "kedro", *arguments]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert f"python -m kedro {arguments[0]}" in result.stdout + result.stderr
    assert "kedro.python" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("pipelines", "wanted"),
    [
        ([], "First 'kedro run --pipelines validation,data_engineering', then 'torchrun --nproc-per-node 4 -m kedro"),
        (["tuning"], "Run it without torchrun: kedro run --pipelines tuning."),
        (["training", "deployment"], "then 'kedro run --pipelines deployment'."),
    ],
)
def test_torchrun_may_only_start_trainings(pipelines: list[str], wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    for name in ("training", "comparison"):
        require_alone([name])
    with pytest.raises(ParameterError, match="torchrun started 4 processes") as caught:
        check_selection({"pipelines": pipelines})
    assert wanted in caught.value.remedy
