"""A package in its folder: replaced as a whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError

from tests.faults.full_disk import room_for
from transformer_foundry.core.base.errors import DeploymentError, find_foundry_error
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.system.process import make_build_folder
from transformer_foundry.datasets import PackageDataset


class Crash(BaseException):
    """The process dies here."""


def make_package(folder: Path, content: str) -> Package:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(content)
    files = {"model.py": {"sha256": hashlib.sha256(content.encode()).hexdigest()}}
    manifest = {"content": content, "files": files, "formats": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Package(folder, manifest)


@pytest.fixture
def dataset(tmp_path: Path) -> PackageDataset:
    return PackageDataset(filepath=str(tmp_path / "output" / "run"))


def test_a_package_is_loaded_and_its_temporary_folder_deleted(dataset: PackageDataset, tmp_path: Path) -> None:
    package = make_package(make_build_folder("test-package"), "first")
    assert not dataset.exists()
    dataset.save(package)
    loaded = dataset.load()
    assert (loaded.folder, loaded.manifest) == (tmp_path / "output" / "run", package.manifest)
    assert not package.folder.exists()


def test_a_new_package_leaves_nothing_of_the_old_one(dataset: PackageDataset, tmp_path: Path) -> None:
    first = make_package(tmp_path / "first", "first")
    (first.folder / "model.onnx").write_bytes(b"old")
    dataset.save(first)
    dataset.save(make_package(tmp_path / "second", "second"))
    assert {path.name for path in dataset.load().folder.iterdir()} == {"model.py", "manifest.json"}
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["run"]


def test_only_the_files_of_the_manifest_and_the_card_are_copied(dataset: PackageDataset, tmp_path: Path) -> None:
    foreign = make_package(tmp_path / "foreign", "first")
    (tmp_path / "secret").write_text("private")
    (foreign.folder / "stolen").symlink_to(tmp_path / "secret")
    (foreign.folder / "README.md").write_text("card")
    dataset.save(foreign)
    assert {path.name for path in dataset.folder.iterdir()} == {"model.py", "README.md", "manifest.json"}


def test_a_card_that_is_a_link_out_of_the_package_is_refused(dataset: PackageDataset, tmp_path: Path) -> None:
    foreign = make_package(tmp_path / "foreign", "first")
    (tmp_path / "secret").write_text("private")
    (foreign.folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(DatasetError, match="leads out of it"):
        dataset.save(foreign)
    assert not dataset.exists()


def test_a_loaded_package_can_be_saved_again(dataset: PackageDataset, tmp_path: Path) -> None:
    dataset.save(make_package(tmp_path / "first", "first"))
    dataset.save(dataset.load())
    assert dataset.load().manifest["content"] == "first"


@pytest.mark.parametrize("place", ["archive/run", "memory://archive/run"])
def test_a_package_that_was_loaded_elsewhere_is_copied(place: str, dataset: PackageDataset, tmp_path: Path) -> None:
    dataset.save(make_package(make_build_folder("test-package"), "first"))
    archive = PackageDataset(filepath=place if ":" in place else str(tmp_path / place), cache_dir=str(tmp_path / "c"))
    archive.save(dataset.load())
    assert archive.load().manifest == dataset.load().manifest


def test_a_package_that_is_gone_replaces_none(dataset: PackageDataset, tmp_path: Path) -> None:
    remote = PackageDataset(filepath="memory://gone/run", cache_dir=str(tmp_path / "c"))
    for place in (dataset, remote):
        place.save(make_package(tmp_path / "first", "first"))
        gone = Package(tmp_path / "gone", {})
        with pytest.raises(DatasetError, match="There is no complete package in"):
            place.save(gone)
        assert place.load().manifest["content"] == "first"


def crash_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Die at the ``call``-th copy, rename or removal; a copy is left torn."""
    counter = itertools.count()

    def dying(function: Any) -> Any:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if next(counter) == call:
                if function is copyfile:
                    Path(arguments[1]).write_text('{"torn')
                raise Crash
            return function(*arguments, **options)

        return wrapper

    copyfile = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", dying(copyfile))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))
    monkeypatch.setattr(Path, "rename", dying(Path.rename))


@pytest.mark.parametrize("call", range(12))
def test_a_crash_leaves_the_old_package_or_the_new_one(
    call: int, dataset: PackageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.save(make_package(tmp_path / "first", "first"))
    second = make_package(tmp_path / "second", "second")
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        crash_at(patch, call)
        dataset.save(second)
    again = PackageDataset(filepath=str(tmp_path / "output" / "run"))
    assert again.load().manifest["content"] in ("first", "second")
    again.save(make_package(tmp_path / "third", "third"))
    assert again.load().manifest["content"] == "third"


def test_an_incomplete_first_package_is_no_package(
    dataset: PackageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package(tmp_path / "first", "first")
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        crash_at(patch, 2)
        dataset.save(package)
    assert (tmp_path / "output" / ".run.new" / "manifest.json").read_text() == '{"torn'
    assert not dataset.exists()


def test_a_full_disk_leaves_the_old_package_and_nothing_half_written(dataset: PackageDataset, tmp_path: Path) -> None:
    dataset.save(make_package(tmp_path / "first", "first"))
    second = make_package(tmp_path / "second", "second")
    with room_for(10), pytest.raises((DeploymentError, DatasetError)) as raised:
        dataset.save(second)
    assert "cannot be written" in str(find_foundry_error(raised.value))
    assert dataset.load().manifest["content"] == "first"
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["run"]
    assert (second.folder / "manifest.json").exists()


def test_a_folder_of_other_files_is_not_replaced(dataset: PackageDataset, tmp_path: Path) -> None:
    (tmp_path / "output" / "run").mkdir(parents=True)
    (tmp_path / "output" / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises((DeploymentError, DatasetError)) as raised:
        dataset.save(make_package(tmp_path / "first", "first"))
    assert "belong to no package" in str(find_foundry_error(raised.value))
    assert (tmp_path / "output" / "run" / "thesis.tex").exists()


def test_damage_is_found_when_it_is_loaded(dataset: PackageDataset, tmp_path: Path) -> None:
    dataset.save(make_package(tmp_path / "first", "first"))
    (tmp_path / "output" / "run" / "model.py").write_text("other")
    with pytest.raises((DeploymentError, DatasetError)) as raised:
        dataset.load()
    assert "missing or damaged" in str(find_foundry_error(raised.value))


def test_describing_it_reads_nothing(dataset: PackageDataset) -> None:
    assert "output/run" in str(dataset)
