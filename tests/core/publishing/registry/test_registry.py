"""The registry of models: versions, aliases, promotion, crashes, two processes at once."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.full_disk import room_for
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.atomic import write_json
from transformer_foundry.core.files.run_paths import runs_folder
from transformer_foundry.core.publishing import Package, Registration, Registry
from transformer_foundry.core.publishing.package.package import list_files
from transformer_foundry.core.publishing.registry.damage import remedy_of_damage

REGISTER = """
import sys
from transformer_foundry.core.publishing import Registry, read_package
for folder in sys.argv[2:]:
    print(Registry(sys.argv[1]).register(read_package(folder)).version, flush=True)
"""


def package(folder: Path, loss: float | None, data: str = "d" * 64, **more: Any) -> Package:
    """A package without a model: the registry reads the manifest and keeps the files."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(64))
    manifest = {
        "model": {"name": "gpt", "identity": "i" * 64},
        "training": {"step": 7},
        "data": {"fingerprint": data},
        "evaluation": {"test": {} if loss is None else {"loss": loss, "accuracy": 1 - loss / 10}},
        "formats": [],
        "files": list_files(folder),
    } | more
    write_json(folder / "manifest.json", manifest)
    return Package(folder, manifest)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_versions_are_kept_whole_after_their_package_is_gone(registry: Registry, tmp_path: Path) -> None:
    first = package(tmp_path / "a", 2.0)
    weights = (first.folder / "model.safetensors").read_bytes()
    registry.register(first, run="first")
    shutil.rmtree(first.folder)
    registry.register(package(tmp_path / "a", 1.9), run="second")
    found = registry.find("gpt:1")
    assert (found.folder / "model.safetensors").read_bytes() == weights
    assert (found.lineage["run"], found.lineage["step"], found.metrics["loss"]) == ("first", 7, 2.0)
    assert [registry.find(name).version for name in ("gpt", "gpt:v1", "gpt@candidate")] == [2, 1, 2]


def test_the_same_package_is_registered_once(registry: Registry, tmp_path: Path) -> None:
    one = package(tmp_path / "a", 2.0)
    assert [registry.register(one).version for _ in range(2)] == [1, 1]
    assert registry.of(one).version == 1


def test_a_damaged_version_gets_no_alias_and_is_replaced_by_the_same_package(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = (registry.register(package(tmp_path / name, loss)) for name, loss in (("a", 2.0), ("b", 1.9)))
    for version in (first, second):
        registry.promote(version)
    (first.folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(DeploymentError, match=r"gpt:1 is damaged: .*model\.safetensors"):
        registry.promote(first, force=True)
    with pytest.raises(DeploymentError, match="gpt:1 is damaged"):
        registry.roll_back("gpt")
    assert registry.find("gpt@production").version == 2
    registry.register(Package(tmp_path / "a", json.loads((tmp_path / "a" / "manifest.json").read_text())))
    assert registry.roll_back("gpt").version == 1


def test_damage_of_a_package_in_place_leaves_its_version_whole(registry: Registry, tmp_path: Path) -> None:
    version = registry.register(package(tmp_path / "a", 2.0))
    for file in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        with file.open("r+b") as opened:
            opened.write(b"damage")
        assert not file.samefile(version.folder / file.relative_to(tmp_path / "a"))
    assert registry.damage_of(version) is None


@pytest.mark.parametrize(
    ("weights", "said"),
    [("w", "Deploy the run r again"), ("x", "this version is lost"), ("", "where its checkpoints are")],
)
def test_a_damaged_version_is_made_again_only_if_its_checkpoint_is_still_the_best(
    registry: Registry, tmp_path: Path, weights: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = dataclasses.replace(
        registry.register(package(tmp_path / "a", 2.0), run="r"), made_from={"weights": "w", "step": 3}
    )
    if weights:  # else the run is on another machine, or elsewhere by the catalog
        (runs_folder(version.folder.parents[2]) / "r").mkdir(parents=True)
    checkpoint = {"weights": weights, "step": 3}
    monkeypatch.setattr("transformer_foundry.core.publishing.registry.damage.best_origin", lambda _: checkpoint)
    assert said in remedy_of_damage(version)


def test_a_publication_is_recorded_once(registry: Registry, tmp_path: Path) -> None:
    one = package(tmp_path / "a", 2.0)
    where = {"repo_id": "alice/gpt", "tag": "v1", "revision": "abc", "difference": 0.0}
    for _ in range(2):
        Registration(one, publication=where | {"url": "u", "published": True}).enter(registry)
    Registration(one, publication={"published": False}).enter(registry)
    assert registry.find("gpt").publications == (where | {"url": "u"},)


def test_one_package_under_two_names_is_told_apart_by_the_name(registry: Registry, tmp_path: Path) -> None:
    one = package(tmp_path / "a", 2.0)
    for name in ("first", "second"):
        Registration(one, name, {"run": "gpt"}).enter(registry)
    assert [registry.of(one, name).name for name in ("first", "second")] == ["first", "second"]
    where = {"repo_id": "alice/gpt", "tag": "v1", "revision": "abc"}
    Registration(one, "second", publication=where).enter(registry)
    assert [registry.find(name).publications for name in ("first", "second")] == [(), (where,)]
    # Published by hand: no third name is made for it.
    assert Registration(one, publication=where | {"tag": "v2"}).enter(registry).name == "first"
    assert set(registry.versions()) == {"first", "second"}


def test_a_version_says_what_its_package_is_made_from(registry: Registry, tmp_path: Path) -> None:
    origin = {"model": "m", "weights": "w", "step": 7}
    assert registry.register(package(tmp_path / "a", 2.0, made_from=origin)).made_from == origin
    assert registry.register(package(tmp_path / "b", 2.0)).made_from == {}  # of version 0.1.0: unknown


def test_only_a_better_model_of_the_same_test_data_is_promoted(registry: Registry, tmp_path: Path) -> None:
    losses = {"good": 2.0, "worse": 2.1, "equal": 2.0, "better": 1.9}
    versions = {name: registry.register(package(tmp_path / name, loss)) for name, loss in losses.items()}
    versions["other"] = registry.register(package(tmp_path / "other", 1.0, data="e" * 64))
    versions["untested"] = registry.register(package(tmp_path / "untested", None))
    assert registry.promote(versions["good"]) is None
    for name, problem in (("worse", "2.1 against 2"), ("equal", "not better"), ("other", "not tested on the same"),
                          ("untested", "has no loss")):  # fmt: skip
        with pytest.raises(DeploymentError, match=problem):
            registry.promote(versions[name])
    assert registry.find("gpt@production").version == 1
    before = registry.promote(versions["better"], metric="accuracy")
    assert before is not None
    assert (before.version, registry.find("gpt@production").version) == (1, 4)
    registry.promote(versions["worse"], force=True)
    assert registry.find("gpt@production").version == 2


def test_rolling_back_goes_through_all_that_were_in_production(registry: Registry, tmp_path: Path) -> None:
    for loss in (3.0, 2.0, 1.0):
        registry.promote(registry.register(package(tmp_path / str(loss), loss)))
    assert [registry.roll_back("gpt").version for _ in range(2)] == [2, 1]
    with pytest.raises(DeploymentError, match="No version of gpt was production before"):
        registry.roll_back("gpt")
    assert registry.find("gpt@production").version == 1


def test_a_line_that_a_crash_cut_off_is_ignored(registry: Registry, tmp_path: Path) -> None:
    registry.register(package(tmp_path / "a", 2.0))
    registry.register(package(tmp_path / "c", 1.5))
    log = registry.folder / "log.jsonl"
    whole = log.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        log.write_bytes(whole[:-cut])
        assert [item.aliases for item in registry.versions()["gpt"]] == [("candidate",)]
    registry.register(package(tmp_path / "b", 1.0))
    assert [item.aliases for item in registry.versions()["gpt"]] == [(), ("candidate",)]


def test_a_damaged_line_is_named(registry: Registry, tmp_path: Path) -> None:
    registry.register(package(tmp_path / "a", 2.0))
    log = registry.folder / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"version": 1', b'"version": 3', 1))
    with pytest.raises(DeploymentError, match=r"Line 1 of .*log.jsonl is damaged"):
        registry.versions()


def test_a_full_disk_leaves_the_log_unchanged(registry: Registry, tmp_path: Path) -> None:
    version = registry.register(package(tmp_path / "a", 2.0))
    log = registry.folder / "log.jsonl"
    before = log.read_bytes()
    with room_for(len(before) + 10), pytest.raises(DeploymentError, match="cannot be written to"):
        registry.promote(version)
    assert log.read_bytes() == before
    registry.promote(version)
    assert registry.find("gpt@production").version == 1


def test_two_processes_take_turns(registry: Registry, tmp_path: Path) -> None:
    folders = [[str(package(tmp_path / f"{who}{at}", 2.0).folder) for at in range(6)] for who in "ab"]
    command = [sys.executable, "-c", REGISTER, str(registry.folder)]
    processes = [subprocess.Popen([*command, *own], stdout=subprocess.PIPE, text=True) for own in folders]
    numbers = [int(line) for process in processes for line in process.communicate()[0].splitlines()]
    assert sorted(numbers) == list(range(1, 13))
    assert [item.version for item in registry.versions()["gpt"]] == list(range(1, 13))


def test_a_process_that_is_killed_leaves_whole_versions_only(registry: Registry, tmp_path: Path) -> None:
    folders = [str(package(tmp_path / f"p{at}", 2.0).folder) for at in range(40)]
    process = subprocess.Popen(
        [sys.executable, "-c", REGISTER, str(registry.folder), *folders], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    acknowledged = [int(process.stdout.readline()) for _ in range(5)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = registry.versions()["gpt"]
    assert len(kept) >= len(acknowledged)
    for item in kept:
        assert json.loads((item.folder / "manifest.json").read_text())["files"]
    assert registry.register(package(tmp_path / "last", 1.0)).version == len(kept) + 1


def test_a_package_without_a_requested_format_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    wrong = {"format": "onnx", "status": "failed", "stage": "parity", "reason": "differs"}
    with pytest.raises(DeploymentError, match="onnx differs"):
        registry.register(package(tmp_path / "a", 2.0, formats=[wrong]))
    assert registry.versions() == {}


def test_an_unknown_model_is_refused_with_the_known_ones(registry: Registry, tmp_path: Path) -> None:
    registry.register(package(tmp_path / "a", 2.0))
    with pytest.raises(DeploymentError, match="Did you mean 'gpt'"):
        registry.find("gtp")
    with pytest.raises(DeploymentError, match="gpt@production"):
        registry.find("gpt@production")


def test_a_name_that_is_no_file_name_is_simplified(registry: Registry, tmp_path: Path) -> None:
    one = registry.register(package(tmp_path / "a", 2.0), name="../my model:3@x")
    assert one.name == "my-model-3-x"
    assert one.folder.parent.parent == registry.folder
    assert registry.find(one.name).version == 1
