"""The catalog after a run: every entry loads, and kedro's own commands about it say nothing unexpected."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.integration import command_server
from tests.integration.foundry import PROJECT, arguments, environment, kedro_run, kill_when
from transformer_foundry.console.params_text import parse_params

pytestmark = pytest.mark.slow

LONGEST = 300
SHOWN = (
    "TrainingRunDataset",
    "TokenSplitsDataset",
    "TokenizerDataset",
    "PackageDataset",
    "StudyDataset",
    "RegistryDataset",
)
"""Characters of a loaded object; results in JSON, tables and figures are values of Python, plotly and pandas."""


def test_every_entry_loads_after_a_run_and_shows_itself_shortly(tmp_path: Path) -> None:
    ran = kedro_run(tmp_path, settings={"deployment.formats": "[pytorch]"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    bootstrap_project(PROJECT)
    same = parse_params(arguments(tmp_path)[-1])  # with other parameters, it is the catalog of another run
    with KedroSession.create(project_path=PROJECT, runtime_params=same) as session:
        catalog = session.load_context().catalog
        ours = {name: catalog.get(name) for name in catalog.keys() if not name.startswith("param")}  # noqa: SIM118
        shown = {
            name: repr(catalog.load(name))
            for name, dataset in ours.items()
            if type(dataset).__name__ in SHOWN and (dataset.exists() or name == "study")
        }
    long = {name: text for name, text in shown.items() if len(text.replace(str(tmp_path), "")) > LONGEST}
    assert {"training_run", "token_splits", "tokenizer", "model_package", "study", "model_registry"} <= shown.keys()
    assert long == {}
    assert not [text for text in shown.values() if " object at 0x" in text]


@pytest.mark.parametrize("command", ["describe-datasets", "list-patterns", "resolve-patterns"])
def test_kedro_catalog_prints_no_warnings(command: str) -> None:
    result = command_server.run([sys.executable, "-m", "kedro", "catalog", command], PROJECT, environment())
    assert (result.returncode, result.stderr) == (0, "")
    assert "warning:" not in result.stdout.lower()


def test_only_missing_outputs_trains_an_interrupted_run_to_its_end(tmp_path: Path) -> None:
    settings = {"training.max_steps": 400, "training.save_steps": 10, "deployment.formats": "[pytorch]"}
    checkpoints = tmp_path / "06_models" / "gpt" / "checkpoints"
    kill_when(lambda: any(checkpoints.glob("*/manifest.json")), tmp_path, "training", settings, signal.SIGINT)
    stopped_at = max(int(path.parent.name.split("-")[1]) for path in checkpoints.glob("*/manifest.json"))
    assert stopped_at < 400
    command = arguments(tmp_path, "", settings | {"training.max_steps": stopped_at + 8})
    manifest = tmp_path / "06_models" / "gpt" / "manifest.json"
    result = command_server.run([*command, "--only-missing-outputs"], PROJECT, environment())
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(manifest.read_text())["result"]["step"] == stopped_at + 8
    evaluation = json.loads((tmp_path / "08_reporting" / "gpt" / "evaluation.json").read_text())
    assert evaluation["step"] <= stopped_at + 8
    again = command_server.run([*command, "--only-missing-outputs"], PROJECT, environment())
    assert "Training starts at step" not in again.stdout


def test_a_data_folder_at_a_url_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for setting in ("data_dir=s3://bucket/data", "drive.folder=s3://bucket/copies"):
        command = [sys.executable, "-m", "kedro", "run", "--params", f"{setting},tracking.mode=disabled"]
        before = set(PROJECT.iterdir())
        result = command_server.run(command, PROJECT, environment())
        assert result.returncode == 2
        assert setting.partition("=")[0] in result.stderr
        assert len(result.stderr.strip().splitlines()) == 3
        assert set(PROJECT.iterdir()) == before


def test_the_parallel_runner_is_refused_in_three_lines(tmp_path: Path) -> None:
    command = [*arguments(tmp_path, "training"), "--runner", "ParallelRunner"]
    result = command_server.run(command, PROJECT, environment())
    assert result.returncode == 2
    assert "ParallelRunner" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 3
