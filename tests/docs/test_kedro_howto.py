"""The recipes of docs/howto/kedro.md, executed as they are written there, in a copy of the project."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.integration import command_server
from transformer_foundry.pipeline_registry import register_pipelines

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "howto" / "kedro.md").read_text(encoding="utf-8")
TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)

SMALL = """
data: {max_documents: 60}
training: {max_steps: 4, eval_steps: 4, per_device_train_batch_size: 2}
deployment: {formats: [pytorch]}
tracking: {mode: disabled}
"""

pytestmark = pytest.mark.slow


def blocks(heading: str) -> list[tuple[str, str]]:
    """Return the titled code blocks of a section: where they go, and their text."""
    section = re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    found = TITLED.findall(section)
    assert found, f"the section {heading!r} has no titled block"
    return found


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("copy") / "project")
    run(folder, "--pipelines", "data_engineering")
    return folder


def copy_project(folder: Path) -> Path:
    """Copy the project without its data, with parameters for small runs."""
    for name in ("conf", "src"):
        # With __pycache__: each command would compile 400 modules.
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("*.egg-info"))
    shutil.copytree(PROJECT / "data" / "01_raw" / "exports", folder / "data" / "01_raw" / "exports")
    shutil.copy(PROJECT / "pyproject.toml", folder)
    shutil.rmtree(folder / "conf" / "local")
    (folder / "conf" / "local").mkdir()
    (folder / "conf" / "local" / "parameters.yml").write_text(SMALL)
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "project"))


def run(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "kedro", "run", *arguments]
    result = command_server.run(command, project)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def follow(project: Path, heading: str) -> None:
    """Write the files of a recipe; lines for the registry are added to what it returns."""
    for title, text in blocks(heading):
        if title == "pipeline_registry.py":
            registry = project / "src" / "transformer_foundry" / "pipeline_registry.py"
            name = text.split('"')[1]
            source = registry.read_text().replace("import comparison,", f"import {name}, comparison,")
            registry.write_text(
                source.replace('        "validation": checked,\n', f'        "validation": checked,\n{text}', 1)
            )
            assert text in registry.read_text()
        else:
            path = project / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def test_a_dataset_is_swapped_in_the_configuration(project: Path) -> None:
    follow(project, "Swap a dataset")
    run(project, "--namespaces", "data_engineering")
    assert json.loads((project / "data" / "08_reporting" / "table.json").read_text())


def test_a_node_with_parameters_is_added_without_a_change_of_our_lists(project: Path) -> None:
    follow(project, "Add a node")
    said = run(project, "--pipelines", "token_count", "--params", "token_count.longest=2")
    assert "token_count" in said.splitlines()[0]
    counted = json.loads((project / "data" / "08_reporting" / "gpt" / "token_count.json").read_text())
    assert len(counted["longest"]) == 2


@pytest.mark.parametrize("name", list(register_pipelines()))
def test_a_hook_finds_complete_options_in_every_pipeline(name: str, caplog: pytest.LogCaptureFixture) -> None:
    bootstrap_project(PROJECT)
    ((_, text),) = blocks("Add a hook")
    module: dict[str, Any] = {"__name__": "learning_rate"}
    exec(text, module)
    session = KedroSession.create(project_path=PROJECT)
    context = session.load_context()
    context._pipelines_to_validate = None if name == "__default__" else [name]  # as a session does
    context._hook_manager.register(module["LearningRateHook"]())
    with caplog.at_level("INFO"):
        assert context.catalog is not None
    assert "0.002 for 400 steps" in caplog.text


PLAIN = """
import matplotlib.figure
import matplotlib.pyplot as plt
from kedro.pipeline import node, pipeline

def evaluate_model(mine: dict) -> dict:
    return {"depth": mine["depth"]}

def draw(mine) -> matplotlib.figure.Figure:
    return plt.figure()

def create_pipeline(**kwargs):
    return pipeline([
        node(evaluate_model, "params:mine.model", "depths", name="my_eval"),
        node(draw, "params:mine.model", "my_figure", name="draw"),
    ])
"""
PLAIN_CATALOG = """
depths: {type: partitions.PartitionedDataset, path: data/depths, dataset: json.JSONDataset, filename_suffix: .json}
my_figure: {type: matplotlib.MatplotlibDataset, filepath: data/mine.png}
"""


def test_plain_nodes_in_this_package_are_the_users_own(bare: Path) -> None:
    package = bare / "src" / "transformer_foundry"
    (package / "pipelines" / "mine").mkdir()
    (package / "pipelines" / "mine" / "__init__.py").write_text(PLAIN)
    registry = package / "pipeline_registry.py"
    source = registry.read_text().replace("import comparison,", "import mine, comparison,")
    registry.write_text(
        re.sub(r"(?m)^( +)return \{$", r'\g<0>\n\1    "mine": mine.create_pipeline(),', source, count=1)
    )
    with (bare / "conf/local/parameters.yml").open("a") as file:
        file.write("\nmine: {model: {kind: tree, depth: 3}}\n")
    (bare / "conf/local/catalog.yml").write_text(PLAIN_CATALOG)
    run(bare, "--pipelines", "mine")
    assert json.loads((bare / "data/depths/depth.json").read_text()) == 3
    assert (bare / "data/mine.png").exists()
    subprocess.run([sys.executable, "-m", "kedro", "plan", "--pipelines", "mine"], cwd=bare, check=True)


def test_a_second_training_of_its_own_is_a_pipeline_with_a_namespace(project: Path) -> None:
    follow(project, "Reuse a pipeline")
    run(project, "--pipelines", "second")
    rows = (project / "data" / "06_models" / "gpt-second" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 8
    results = project / "data" / "08_reporting" / "gpt-second"
    assert {"evaluation.json", "samples.json", "loss.json"} <= {path.name for path in results.iterdir()}
    assert not list((project / "data" / "08_reporting").glob("gpt/second.*"))
    assert "evaluation: up to date" in run(project, "--pipelines", "second")


def test_a_second_training_without_entries_for_its_run_is_refused_before_anything_is_written(project: Path) -> None:
    follow(project, "Reuse a pipeline")
    (project / "conf" / "base" / "catalog_second.yml").unlink()
    command = [sys.executable, "-m", "kedro", "run", "--pipelines", "second"]
    refused = command_server.run(command, project)
    assert refused.returncode == 2
    assert "There is no entry second.previous_run" in refused.stdout + refused.stderr
    assert not list((project / "data").glob("*/gpt-second*"))


def test_a_hook_is_removed_by_deleting_its_line(bare: Path) -> None:
    settings = bare / "src" / "transformer_foundry" / "settings.py"
    settings.write_text(settings.read_text().replace("            WandbCallback(),\n", ""))
    run(bare, "--namespaces", "validation")


def test_each_task_of_a_dag_grouped_by_namespace_runs_in_a_process_of_its_own(project: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom kedro.framework.session import KedroSession\n"
        "from kedro.framework.project import configure_project\nconfigure_project('transformer_foundry')\n"
        "here = Path.cwd()\n"
        "with KedroSession.create(project_path=here, env='local', conf_source=here / 'conf') as session:\n"
        "    session.run(pipeline_names=['__default__'], namespaces=[sys.argv[1]])\n"
    )
    for stage in ("validation", "data_engineering", "training", "deployment"):
        task = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'src')\n{program}", stage]
        result = command_server.run(task, project)
        assert result.returncode == 0, result.stdout + result.stderr
    assert (project / "data" / "07_model_output" / "gpt" / "manifest.json").is_file()


@pytest.mark.skipif(importlib.util.find_spec("kedro_airflow") is None, reason="kedro-airflow is not installed")
def test_kedro_airflow_writes_one_task_for_each_stage(bare: Path) -> None:
    command = [sys.executable, "-m", "kedro", "airflow", "create", "--group-by", "namespace", "--target-dir", "dags"]
    subprocess.run(command, cwd=bare, check=True, capture_output=True)
    (dag,) = (bare / "dags").glob("*.py")
    for stage in ("validation", "data_engineering", "training", "deployment"):
        assert f'_run_kedro_node(namespaces=["{stage}"])' in dag.read_text()


@pytest.mark.skipif(importlib.util.find_spec("kedro_mlflow") is None, reason="kedro-mlflow is not installed")
def test_kedro_mlflow_gets_every_parameter_under_its_name(bare: Path) -> None:
    follow(bare, "kedro-mlflow beside it")
    run(bare, "--namespaces", "validation")
    logged = dict(sqlite3.connect(bare / "mlflow.db").execute("select key, value from params").fetchall())
    assert logged["training.max_steps"] == "4"
