"""A command that cannot succeed is refused before anything is written: three lines that name the parameter."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from transformer_foundry.cli.project import cli
from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.config.run_name import accept_run

ROOT = Path(__file__).parents[2]
EXPORTS = ROOT / "data" / "01_raw" / "exports"

# Parameters -> what the three lines name; {at} is a folder with the files of ``_write_inputs``.
REFUSED: dict[str, tuple[str, ...]] = {
    "model.source={at}/nosuch": ("model.source", "nosuch"),
    "model.source={at}/empty": ("model.py", "empty"),
    "model.source={at}/broken": ("model.py line 1",),
    "model.source={at}/bad_config": ("config.json",),
    "model.source={at}/gpt.zip": ("model.sha256", "gpt.zip"),
    "model.source={at}/gpt.zip,model.sha256=" + "0" * 64: ("model.sha256", "0000"),
    "model.source=0123456789abcdef0123456789abcdef,model.revision=abc": ("model.revision", "abc"),
    "model.kind=decoder": ("model.kind", "decoder"),
    "model.task=lm": ("model.task", "lm"),
    "model.init_from=nosuch": ("model.init_from", "nosuch"),
    "model.init_from=gptt,run.name=new": ("model.init_from", "gptt", "'gpt'"),
    "model.init_from=gpt,run.fork_from=gpt,run.name=new": ("run.fork_from", "model.init_from"),
    "run.fork_from=nosuch": ("run.fork_from", "nosuch"),
    "run.name=a/b": ("run.name", "a/b"),
    "run.preparation=gptt,run.name=new": ("run.preparation", "gptt", "'gpt'"),
    "run.preparation=../x": ("run.preparation", "../x"),
    "run.on_change=refuse,training.seed=1": ("run.on_change", "training.seed", "1"),
    "run.on_change=ask": ("run.on_change", "ask"),
    "run.reproduce={at}/nosuch.json": ("run.reproduce", "nosuch.json"),
    "data.source={at}/nosuch.csv": ("data.source", "nosuch.csv"),
    "data.source={at}/empty.csv": ("empty.csv",),
    "data.source={at}/page.csv": ("page.csv", "web page"),
    "data.source={at}/table.csv,data.text_column=texx": ("data.text_column", "texx", "'text'"),
    "data.source={at}/table.csv,data.label_column=nosuch": ("data.label_column", "nosuch"),
    "data.source={at}/numbers.csv,model.task=causal_lm": ("data.text_column", "numbers.csv"),
    "data.source={at}/text.txt,model.task=sequence_classification": ("text.txt", "labels"),
    "data.source={at}/empty": ("empty",),
    "data.source={at}/text.txt,data.split=nosuch": ("data.split", "nosuch"),
    "data.tokenizer={at}/nosuch": ("data.tokenizer", "nosuch"),
    "data.tokenizer=bpee": ("data.tokenizer", "bpee", "'bpe'"),
    "data.validation_share=0.9": ("data.validation_share", "0.9"),
    "training.device=cuda": ("training.device", "cuda"),
    "training.learning_rate=-1": ("training.learning_rate", "-1"),
    "training.optimizer=adam": ("training.optimizer", "'adam'", "adamw"),
    "training.lerning_rate=1": ("training.lerning_rate", "training.learning_rate"),
    "training.max_hours=1,training.num_train_epochs=1": ("training.max_hours", "training.num_train_epochs"),
    "training.use_best=true": ("training.use_best", "tuning"),
    "tuning.sampler=tpee": ("tuning.sampler", "tpee"),
    "benchmark.models=[nosuch]": ("benchmark.models", "nosuch"),
    "benchmark.models=[{at}/empty]": ("benchmark.models", "empty"),
    "deployment.formats=[onxx]": ("deployment.formats", "onxx"),
    "deployment.hub_repo=gpt": ("deployment.hub_repo", "gpt"),
    "deployment.hub_repo=alice/gpt": ("deployment.hub_repo", "HF_TOKEN"),
    "tracking.mode=online": ("tracking.mode", "WANDB_API_KEY"),
    "tracking.mode=on-line": ("tracking.mode", "on-line"),
    "drive.upload_mb_per_s=0": ("drive.upload_mb_per_s", "0"),
    "data_dir={at}/text.txt/data": ("data_dir", "text.txt"),
}


def _write_inputs(folder: Path) -> None:
    (folder / "empty").mkdir()
    for name in ("broken", "bad_config"):
        shutil.copytree(EXPORTS / "gpt", folder / name)
    (folder / "broken" / "model.py").write_text("class Model(:\n")
    (folder / "bad_config" / "config.json").write_text("{")
    with zipfile.ZipFile(folder / "gpt.zip", "w") as archive:
        for name in ("model.py", "config.json"):
            archive.write(EXPORTS / "gpt" / name, name)
    (folder / "empty.csv").write_text("")
    (folder / "page.csv").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (folder / "table.csv").write_text("text,label\nhello there,1\ngood day,0\n")
    (folder / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "text.txt").write_text("one text\nanother text\n")


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files to read, and the data folder of an earlier run."""
    folder = tmp_path_factory.mktemp("refused")
    _write_inputs(folder)
    given = {"data_dir": str(folder / "data"), "model": {"source": str(EXPORTS / "gpt")}}
    loader = FoundryConfigLoader(str(ROOT / "conf"), runtime_params=given, base_env="base", default_run_env="local")
    parameters = loader["parameters"]
    assert loader.run_choice is not None
    accept_run(loader.run_choice, parameters)
    (folder / "data" / "06_models" / "gpt" / "checkpoints" / "step-00000100").mkdir(parents=True)
    bootstrap_project(ROOT)
    (folder / "data" / "06_models" / "gpt" / "manifest.json").write_text("{}")
    return folder


def _state(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in files}


@pytest.mark.parametrize("params", REFUSED)
def test_a_bad_command_is_refused_and_changes_nothing(
    at: Path, params: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("NETRC", "HF_HOME", "HF_TOKEN_PATH"):
        monkeypatch.setenv(name, str(tmp_path / name))
    given = params.format(at=at)
    if "data_dir=" not in given:
        given = f"data_dir={at / 'data'},{given}"
    before = _state(at)
    result = CliRunner().invoke(cli, ["run", "--params", given])
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == 2, result.output
    assert lines[0].startswith("error: "), result.stderr
    assert 1 <= len(lines) <= 3
    assert [name for name in REFUSED[params] if name not in result.stderr] == [], result.stderr
    assert _state(at) == before


def test_the_time_until_a_refusal_is_printed(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "kedro", "run", "--params", f"data_dir={at / 'data'},data.source={at}/nosuch.csv"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), check=False)
    seconds = time.perf_counter() - began
    with capsys.disabled():
        print(f"\nA command with a wrong data.source was refused after {seconds:.1f} s.")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) <= 3
