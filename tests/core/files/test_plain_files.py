"""Links are not followed, and what is neither file nor folder is not opened."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import DataError, DeploymentError
from transformer_foundry.core.files.atomic import copy_file, replace_file, sha256_of, write_json, write_text
from transformer_foundry.core.files.json_lines import append_row, read_rows
from transformer_foundry.core.files.plain_files import plain_opener, read_plain, require_contained


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "notes").write_text("years of work")
    return tmp_path / "home" / "notes"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "data" / "runs" / "gpt" / "checkpoints").mkdir(parents=True)
    return tmp_path / "data" / "runs" / "gpt"


WRITERS = {
    "text": lambda path: write_text(path, "x"),
    "json": lambda path: write_json(path, {"a": 1}),
    "a row": lambda path: append_row(path, {"a": 1}),
    "a copy": lambda path: copy_file(Path(__file__), path),
    "a lock": lambda path: open(path, "w", opener=plain_opener).close(),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_is_not_written_through_a_link_or_into_a_fifo(tmp_path: Path, precious: Path, write) -> None:  # type: ignore[no-untyped-def]
    link, dangling, fifo, free = (tmp_path / name for name in ("link", "dangling", "fifo", "free"))
    link.symlink_to(precious)
    dangling.symlink_to(precious.with_name("new"))
    os.mkfifo(fifo)
    for path in (link, dangling, fifo):
        with pytest.raises(OSError, match=r"link|no plain file|No such device"):
            write(path)
    assert (precious.read_text(), os.listdir(precious.parent)) == ("years of work", ["notes"])
    write(free)
    assert free.is_file()


def test_a_file_that_is_replaced_and_its_temporary_file_are_not_written_through_links(
    tmp_path: Path, precious: Path
) -> None:
    (tmp_path / "a.json").symlink_to(precious)
    (tmp_path / "a.json.new").symlink_to(precious)
    replace_file(tmp_path / "a.json", "mine")
    assert precious.read_text() == "years of work"
    assert not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "a.json").read_text() == "mine"


def test_what_is_read_is_a_plain_file(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "link").symlink_to(precious)
    os.mkfifo(tmp_path / "fifo")
    for name, number in (("link", errno.ELOOP), ("fifo", errno.EINVAL), ("none", errno.ENOENT)):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is compared
            read_plain(tmp_path / name)
        assert caught.value.errno == number
    assert read_plain(precious) == b"years of work"
    assert sha256_of(tmp_path / "link") == sha256_of(precious)  # the cache of the Hub has links
    with pytest.raises(OSError, match="no plain file"):
        sha256_of(tmp_path / "fifo")
    assert read_rows(tmp_path / "link") == read_rows(tmp_path / "fifo") == []


def test_links_inside_and_the_folder_itself_may_be_links(tmp_path: Path, run: Path) -> None:
    (run / "wandb" / "run-1").mkdir(parents=True)
    (run / "wandb" / "latest-run").symlink_to("run-1")
    (run / "wandb" / "debug.log").symlink_to(run / "wandb" / "run-1" / "missing.log")
    (run / "wandb" / "run-1" / "logs").mkdir()
    (run / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to("/root/.cache/wandb/logs/core-debug.log")
    (run / "loop").symlink_to("loop")
    (tmp_path / "disk").symlink_to(tmp_path / "data")
    require_contained(run, tmp_path / "data")
    require_contained(tmp_path / "disk" / "runs" / "gpt", tmp_path / "disk")
    require_contained(tmp_path / "disk")
    require_contained(tmp_path / "data" / "none" / "yet", tmp_path / "data")


def test_a_link_that_leads_out_is_named_with_its_target(run: Path, precious: Path) -> None:
    (run / "checkpoints" / "step").symlink_to(precious.parent)
    with pytest.raises(DataError, match=rf"checkpoints/step is a link to {precious.parent}, outside of") as caught:
        require_contained(run, run.parent.parent)
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(DeploymentError):
        require_contained(run, error=DeploymentError)


@pytest.mark.parametrize("name", ["wandb/a/logs/debug.log", "wandb/debug-core.log", "logs/debug-core.log"])
def test_only_the_link_of_wandb_to_its_own_log_leads_out(run: Path, precious: Path, name: str) -> None:
    (run / name).parent.mkdir(parents=True)
    (run / name).symlink_to(precious)
    with pytest.raises(DataError, match=f"{name} is a link"):
        require_contained(run)


def test_a_link_to_another_run_of_the_data_folder_leads_out_of_the_run(run: Path) -> None:
    (run.parent / "own" / "checkpoints").mkdir(parents=True)
    (run / "old").symlink_to(run.parent / "own" / "checkpoints")
    with pytest.raises(DataError, match="gpt/old is a link"):
        require_contained(run, run.parent.parent)


@pytest.mark.parametrize("name", ["runs", "runs/gpt"])
def test_a_link_above_the_folder_leads_out_of_the_root_too(
    tmp_path: Path, precious: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "foreign" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious.parent)
    with pytest.raises(DataError, match=f"{name} is a link to {precious.parent}, outside of"):
        require_contained(tmp_path / "foreign" / "runs" / "gpt", tmp_path / "foreign")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{name} is a link to"):
        require_contained(Path("foreign", "runs", "gpt"), tmp_path / "foreign")


def test_what_is_neither_file_nor_folder_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(run / "manifest.json")
    with pytest.raises(DataError, match=r"manifest\.json is a named pipe"):
        require_contained(run)
    with pytest.raises(DataError, match=r"manifest\.json is a named pipe"):
        require_contained(run / "manifest.json", run)
    (run / "manifest.json").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(run)  # the path of a socket is short
        server.bind("metrics.jsonl")
        with pytest.raises(DataError, match=r"metrics\.jsonl is a socket"):
            require_contained(run)
