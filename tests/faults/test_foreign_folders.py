"""Links and special files in a data folder, run, registry or Drive folder from someone else reach nothing outside."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.project import pipelines

from tests.core.publishing.registry.test_registry import package
from tests.hooks.runs import Run
from transformer_foundry.cli import cli
from transformer_foundry.core.base.errors import DeploymentError, FoundryError
from transformer_foundry.core.files.lock import is_locked
from transformer_foundry.core.publishing import Registry
from transformer_foundry.core.training.checkpointing.run_request import read_request
from transformer_foundry.hooks import PreflightCallback
from transformer_foundry.hooks.drive.callback import DriveCallback


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    """The pipelines of the project; a command that waits for a pipe is ended."""
    pipelines.configure("transformer_foundry.pipeline_registry")
    signal.alarm(60)
    yield
    signal.alarm(0)
    pipelines.configure(None)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder outside, of which no byte changes and nothing is found in the data folder."""
    home = tmp_path / "home"
    (home / "step-00000007-abcdef").mkdir(parents=True)
    files = {"notes": "SECRET-OF-42", "step-00000007-abcdef/thesis.txt": "years of work"}
    for name, text in files.items():
        (home / name).write_text(text)
    yield home
    assert {path.relative_to(home).as_posix(): path.read_text() for path in home.rglob("*") if path.is_file()} == files
    inside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in inside if b"SECRET" in path.read_bytes() and home not in path.parents] == []


def trained(tmp_path: Path, *callbacks: object, drive: Path | None = None) -> Run:
    """A run with one checkpoint."""
    run = Run(tmp_path / "data", *callbacks, sections={"drive": {"folder": None if drive is None else str(drive)}})
    run.begin()
    run.start()
    run.progress(10, "a sample")
    run.checkpoint(10)
    run.end()
    return run


RUN_LINKS = {
    "a temporary file": "06_models/gpt/metrics.jsonl.new",
    "the log": "06_models/gpt/metrics.jsonl",
    "the manifest's temporary file": "06_models/gpt/manifest.json.new",
    "the lock": "06_models/gpt/session.lock",
    "a result": "08_reporting/gpt/data.csv",
    "the checkpoints": "06_models/gpt/checkpoints",
    "the package": "07_model_output/gpt",
    "the tokens": "05_model_input/gpt/tokens",
    "all runs": "06_models",
    "the registry": "registry",
    "downloads": "01_raw/downloads",
}


@pytest.mark.parametrize("name", RUN_LINKS.values(), ids=RUN_LINKS)
def test_a_run_is_refused_where_a_link_leads_out(tmp_path: Path, home: Path, name: str) -> None:
    data = trained(tmp_path).data_dir
    link = data / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(home / "notes" if link.suffix else home)
    before = sorted(data.rglob("*"))
    run = Run(data, PreflightCallback())
    with pytest.raises(FoundryError, match=f"{name} is a link to .*home.*nothing was read or written through it"):
        run.begin()
    assert sorted(data.rglob("*")) == before


def test_a_folder_named_for_the_results_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    run = trained(tmp_path, PreflightCallback())
    run.begin()
    assert (tmp_path / "disk" / "06_models" / "gpt" / "checkpoints").is_dir()


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "gpt"])
def test_a_registry_with_a_link_that_leads_out_is_neither_read_nor_written(
    tmp_path: Path, home: Path, name: str
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / name).symlink_to(home / "created" if name == "log.jsonl" else home / "notes" if "." in name else home)
    with pytest.raises(DeploymentError, match=f"{name} is a link to"):
        Registry(folder).register(package(tmp_path / "own", 2.0))
    with pytest.raises(DeploymentError, match=f"{name} is a link to"):
        Registry(folder).versions()


DRIVE_LINKS = {
    "the lease": "gpt/lease.json",
    "the samples": "gpt/samples.jsonl",
    "the state of tracking": "gpt/tracking.json",
    "the marker": ".transformer-foundry",
    "the run": "gpt",
    "all other files": "files",
    "the copies of a file": "files/08_reporting/gpt/results.json",
}


@pytest.mark.parametrize("name", DRIVE_LINKS.values(), ids=DRIVE_LINKS)
def test_a_drive_folder_with_a_link_that_leads_out_is_refused(tmp_path: Path, home: Path, name: str) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    shutil.rmtree(trained(tmp_path, DriveCallback(), drive=drive).data_dir)
    link = drive / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(home / "notes" if link.suffix == ".jsonl" or "." in name else home)
    run = Run(tmp_path / "data", DriveCallback(), sections={"drive": {"folder": str(drive)}})
    result = {"type": "json.JSONDataset", "filepath": str(tmp_path / "data" / "08_reporting" / "gpt" / "results.json")}
    run.files["results"] = result
    with pytest.raises(FoundryError, match=f"{name} is a link to"):
        run.begin(inputs=("results",))


PIPES = ("manifest.json", "request.json", "metrics.jsonl", "session.lock", "checkpoints/step-00000010/manifest.json")


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_in_a_run_keeps_no_command_waiting(tmp_path: Path, name: str) -> None:
    run = trained(tmp_path)
    place = next(path for path in [run.folder / name, *run.folder.glob("checkpoints/*/manifest.json")][
        "/" in name :])  # fmt: skip
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    data = ["--data-dir", str(run.data_dir)]
    listed = CliRunner().invoke(cli, ["runs", "list", *data])
    assert (listed.exit_code, "gpt" in listed.output) == (0, True)
    is_locked(run.folder)
    read_request(run.folder)
    shown = CliRunner().invoke(cli, ["checkpoints", "list", "gpt", *data])
    assert shown.exit_code == 2
    assert "is a named pipe" in shown.output


COMMANDS = [
    ["runs", "compare", "gpt", "gpt"],
    ["checkpoints", "list", "gpt"],
    ["checkpoints", "inspect", "gpt"],
    ["checkpoints", "export", "gpt", "OUT"],
    ["checkpoints", "restore", "gpt", "--step", "10"],
    ["tracking", "replay", "gpt"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("name", ["06_models/gpt/checkpoints", "08_reporting/gpt/report.html"])
def test_commands_refuse_a_run_from_which_a_link_leads_out(
    tmp_path: Path, home: Path, command: list[str], name: str
) -> None:
    data = trained(tmp_path).data_dir
    link = data / name
    shutil.rmtree(link, ignore_errors=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(home / "notes" if link.suffix else home)
    arguments = [str(tmp_path / "out") if item == "OUT" else item for item in command]
    result = CliRunner().invoke(cli, [*arguments, "--data-dir", str(data)])
    assert result.exit_code == 2
    assert f"{name} is a link to" in result.output


def test_an_exported_checkpoint_is_restored_from_its_folder_only(tmp_path: Path, home: Path) -> None:
    run = trained(tmp_path)
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    exported = tmp_path / "exported" / checkpoint.name
    shutil.copytree(checkpoint, exported)
    restore = ["checkpoints", "restore", "gpt", "--data-dir", str(run.data_dir), "--from"]
    renamed = exported.rename(exported.with_name("best-model"))
    result = CliRunner().invoke(cli, [*restore, str(renamed)])
    assert (result.exit_code, len(result.output.splitlines())) == (2, 3)
    assert "best-model is not the name of a checkpoint" in result.output
    assert "step-00000010" in result.output
    renamed.rename(exported)
    (exported / "notes").symlink_to(home / "notes")
    result = CliRunner().invoke(cli, [*restore, str(exported)])
    assert (result.exit_code, "notes is a link to" in result.output) == (2, True)
    (exported / "notes").unlink()
    assert CliRunner().invoke(cli, [*restore, str(exported)]).exit_code == 0
