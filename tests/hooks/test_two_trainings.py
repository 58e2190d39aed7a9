"""Another Kedro project trains two models in one pipeline with all hooks of this package, listed in any order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback.wandb_offline_reader import OfflineRun, read_runs
from transformer_foundry.core.base.text import format_number
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of

pytestmark = pytest.mark.slow

EXPORTS = Path(__file__).parents[2] / "data/01_raw/exports"
SIDES = ("gpt", "bert")
SETTINGS = """
import logging
from transformer_foundry.hooks import *
logging.getLogger("transformer_foundry").setLevel(logging.INFO)
HOOKS = (
    KedroHooks(
        [
            WandbCallback(),
            ReportCallback(),
            SummaryCallback(),
            ProgressCallback(),
            DriveCallback(),
            PreflightCallback(),
        ]
    ),
)
"""
REGISTRY = """
from kedro.pipeline import pipeline
from transformer_foundry.pipelines import data_engineering, training, validation

def register_pipelines():
    one = validation.create_pipeline() + data_engineering.create_pipeline() + training.create_pipeline()
    return {"__default__": pipeline(one, namespace="gpt") + pipeline(one, namespace="bert")}
"""
PARAMETERS = """
drive: {folder: copy}
gpt: &side
  model: {source: none}
  data: {max_documents: 30}
  training: {max_steps: 3, save_steps: 2, logging_steps: 1, per_device_train_batch_size: 2}
  validation: {}
bert: *side
"""


def catalog() -> dict[str, dict[str, object]]:
    """Everything at places and under names of files of the other project's own."""

    def ours(kind: str, filepath: str, **more: object) -> dict[str, object]:
        return {"type": f"transformer_foundry.datasets.{kind}", "filepath": filepath, **more}

    def json_at(filepath: str) -> dict[str, object]:
        return {"type": "json.JSONDataset", "filepath": filepath}

    return {
        "{side}.model_export": {
            "type": "transformer_foundry.datasets.ModelExportDataset",
            "source": str(EXPORTS / "{side}"),
            "cache_dir": "cache",
        },
        "{side}.validation_report": json_at("results/{side}/verdict.json"),
        "{side}.contract": json_at("prepared/{side}/contract.json"),
        "{side}.corpus": ours("CorpusDataset", "prepared/{side}/corpus.json"),
        "{side}.tokenizer": ours("TokenizerDataset", "prepared/{side}/tokenizer"),
        "{side}.token_splits": ours("TokenSplitsDataset", "prepared/{side}/tokens"),
        "{side}.data_profile": json_at("results/{side}/text.json"),
        "{side}.training_run": ours("TrainingRunDataset", "runs/{side}"),
        "{side}.previous_run": ours("TrainingRunDataset", "runs/{side}"),
        "{side}.evaluation": json_at("results/{side}/quality.json"),
        "{side}.samples": json_at("results/{side}/texts.json"),
        "{side}.error_analysis": json_at("results/{side}/errors.json"),
        "{side}.validation_figure": ours("FigureDataset", "results/{side}/verdict.png"),
        "{side}.best_parameters": ours("OptionalJSONDataset", "results/{side}/best.json"),
    }


def make_project(folder: Path) -> None:
    tool = {"package_name": "twins", "project_name": "Twins", "kedro_init_version": "1.0.0", "source_dir": "."}
    lines = [f"{key} = {json.dumps(value)}" for key, value in tool.items()]
    files = {
        "pyproject.toml": "\n".join(["[tool.kedro]", *lines]),
        "twins/__init__.py": "",
        "twins/settings.py": SETTINGS,
        "twins/pipeline_registry.py": REGISTRY,
        "conf/base/parameters.yml": PARAMETERS,
        "conf/base/catalog.yml": json.dumps(catalog()),
        "conf/local/.gitkeep": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def train(folder: Path) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run"],
        cwd=folder,
        env=inherited | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the other project, and what its first run has printed."""
    folder = tmp_path_factory.mktemp("twins")
    make_project(folder)
    return folder, train(folder)


def logged(folder: Path, side: str) -> list[OfflineRun]:
    return read_runs(folder / "results" / side)


@pytest.mark.parametrize("side", SIDES)
def test_each_training_has_a_tracked_run_with_its_own_steps_and_parameters(
    project: tuple[Path, str], side: str
) -> None:
    (run,) = logged(project[0], side)
    assert (run.name, run.exit_code) == (side, 0)
    assert [row["train/step"] for row in run.history if "train/loss" in row] == [1, 2, 3]
    assert run.config["training"]["max_steps"] == 3
    assert not {"gpt", "bert"} & run.config.keys()


@pytest.mark.parametrize("side", SIDES)
def test_each_tracked_run_has_the_results_and_figures_of_its_training_once(
    project: tuple[Path, str], side: str
) -> None:
    (run,) = logged(project[0], side)
    evaluation = json.loads((project[0] / "results" / side / "quality.json").read_text())
    assert run.summary["evaluation/validation/loss"] == evaluation["validation"]["loss"]
    figures = [name for row in run.history for name in row if name.startswith("figures/")]
    assert {"figures/loss_figure", "figures/length_figure"} <= set(figures)
    assert len(figures) == len(set(figures))


@pytest.mark.parametrize("side", SIDES)
def test_each_training_has_its_report_and_its_copy(project: tuple[Path, str], side: str) -> None:
    folder = project[0]
    assert (folder / "results" / side / "report.html").is_file()
    assert [step_of(path) for path in list_checkpoints(folder / "copy" / side)] == [2, 3]
    assert json.loads((folder / "copy" / side / "lease.json").read_text())["released"]
    copied = folder / "copy/files/_project/results" / side
    assert {"quality.json", "verdict.json", "report.html"} <= {path.name for path in copied.iterdir()}


@pytest.mark.parametrize("side", SIDES)
def test_each_line_of_progress_names_its_training(project: tuple[Path, str], side: str) -> None:
    shown = project[1]
    assert f"{side}: Training starts at step 0 of 3." in shown
    assert f"{side}: step 3/3 | " in shown
    assert f"{side}: Evaluation ..." in shown


def test_each_report_has_the_results_of_its_training_and_nothing_of_the_other(project: tuple[Path, str]) -> None:
    folder = project[0]
    loss = {
        side: json.loads((folder / "results" / side / "quality.json").read_text())["validation"]["loss"]
        for side in SIDES
    }
    for side, other in (SIDES, SIDES[::-1]):
        page = (folder / "results" / side / "report.html").read_text()
        assert format_number(loss[side]) in page
        assert format_number(loss[other]) not in page
        assert f"runs/{other}" not in page


def test_the_same_command_again_logs_nothing_twice(project: tuple[Path, str]) -> None:
    folder = project[0]
    train(folder)
    for side in SIDES:
        runs = logged(folder, side)
        rows = [row for run in runs for row in run.history]
        assert [row["train/step"] for row in rows if "train/loss" in row] == [1, 2, 3]
        names = [name for row in rows for name in row if name.startswith(("figures/", "final_samples"))]
        assert len(names) == len(set(names))
