"""Entries behind fsspec: a file system in memory, and one whose requests fail."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from kedro.io import DataCatalog, DatasetError

from tests.core.data.samples import prepare
from tests.datasets.publishing.test_package import make_package
from tests.integration.foundry import SAMPLES
from transformer_foundry.core.base.errors import DataError, FoundryError, ModelError, find_foundry_error
from transformer_foundry.core.studies.comparison.run import CandidateResult
from transformer_foundry.core.system.process import make_build_folder
from transformer_foundry.datasets import (
    AtomicJSONDataset,
    ComparisonDataset,
    FigureDataset,
    ModelExportDataset,
    PackageDataset,
    TokenizerDataset,
    TokenSplitsDataset,
)
from transformer_foundry.datasets.storage.earlier import load_earlier

URL = "memory://bucket/a folder with ünïcode"


class ClosedFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A bucket for which the password must be right to read, and which can be read-only."""

    protocol = "closed"
    cachable = False

    def __init__(self, *args: Any, password: str = "", read_only: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_open, self.is_read_only = password == "right", read_only

    def info(self, path: str, **kwargs: Any) -> Any:
        if not self.is_open:
            raise PermissionError("Access Denied")
        return super().info(path, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if not self.is_open or (self.is_read_only and mode != "rb"):
            raise PermissionError("Access Denied")
        return super()._open(path, mode=mode, **kwargs)

    def rm_file(self, path: str) -> None:
        if self.is_read_only:
            raise PermissionError("Access Denied")
        super().rm_file(path)


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    monkeypatch.setenv("FOUNDRY_STORAGE_CACHE", str(tmp_path / "cache"))
    fsspec.register_implementation("closed", ClosedFileSystem, clobber=True)
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def error_of(caught: pytest.ExceptionInfo[BaseException]) -> FoundryError:
    found = find_foundry_error(caught.value)
    assert found is not None, caught.value
    assert len(str(found).splitlines()) <= 3
    return found


def test_a_tokenizer_is_kept_behind_fsspec(tmp_path: Path) -> None:
    _, tokenizer, _ = prepare("causal_lm", tmp_path / "tokens")
    dataset = TokenizerDataset(filepath=f"{URL}/tok")
    assert not dataset.exists()
    dataset.save(tokenizer)
    assert dataset.exists()
    loaded = TokenizerDataset(filepath=f"{URL}/tok").load()
    assert loaded is not None
    assert loaded.digest() == tokenizer.digest()


def test_tokens_are_mapped_from_a_verified_local_copy(tmp_path: Path, storage: MemoryFileSystem) -> None:
    splits, _, _ = prepare("causal_lm", tmp_path / "made")
    TokenSplitsDataset(filepath=f"{URL}/tokens").save(splits)
    dataset = TokenSplitsDataset(filepath=f"{URL}/tokens")
    loaded = dataset.load()
    assert loaded is not None
    assert (loaded.fingerprint, loaded.folder) == (splits.fingerprint, dataset.folder)
    assert tmp_path / "cache" in dataset.folder.parents
    assert (loaded.train.input_ids[0] == splits.train.input_ids[0]).all()


def test_a_local_copy_is_used_again_and_a_damaged_one_is_not(
    tmp_path: Path, storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits, _, _ = prepare("causal_lm", tmp_path / "made")
    dataset = TokenSplitsDataset(filepath=f"{URL}/tokens")
    dataset.save(splits)
    fetched: list[str] = []
    get = MemoryFileSystem.get_file
    monkeypatch.setattr(
        MemoryFileSystem, "get_file", lambda self, path, *rest, **more: fetched.append(path) or get(self, path, *rest)
    )
    dataset.load()
    assert fetched == []
    column = next(dataset.folder.rglob("train*input_ids*"), None) or next(dataset.folder.rglob("*.bin"))
    column.write_bytes(b"x" * column.stat().st_size)
    loaded = TokenSplitsDataset(filepath=f"{URL}/tokens").load()
    assert fetched
    assert loaded is not None
    assert (loaded.train.input_ids[0] == splits.train.input_ids[0]).all()


def test_the_same_tokens_are_not_uploaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, _, _ = prepare("causal_lm", tmp_path / "made")
    dataset = TokenSplitsDataset(filepath=f"{URL}/tokens")
    dataset.save(splits)
    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda *_, **__: 1 / 0)
    dataset.save(splits)


def test_a_new_package_replaces_the_old_one_and_nothing_else(tmp_path: Path, storage: MemoryFileSystem) -> None:
    storage.pipe_file("/bucket/pack/NOTES.txt", b"mine")
    dataset = PackageDataset(filepath="memory://bucket/pack")
    first = make_package(make_build_folder("test-package"), "first")
    (tmp_path / "private").write_text("mine")
    (first.folder / "extra.onnx").symlink_to(tmp_path / "private")  # not of the package, whoever has put it there
    dataset.save(first)
    assert not storage.exists("/bucket/pack/extra.onnx")
    dataset.save(make_package(tmp_path / "second", "second"))
    loaded = PackageDataset(filepath="memory://bucket/pack").load()
    assert loaded is not None
    assert loaded.manifest["content"] == "second"
    names = {Path(path).name for path in storage.find("/bucket/pack")}
    assert names == {"NOTES.txt", "foundry_files.json", "manifest.json", "model.py"}
    assert not first.folder.exists()


def test_an_upload_that_dies_leaves_nothing_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PackageDataset(filepath="memory://bucket/pack")
    dataset.save(make_package(tmp_path / "first", "first"))
    put = MemoryFileSystem.put_file

    def die(self: MemoryFileSystem, local: str, remote: str, **more: Any) -> None:
        if remote.endswith("manifest.json"):
            raise ConnectionError("gone")
        put(self, local, remote, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", die)
    with pytest.raises(DatasetError) as caught:
        dataset.save(make_package(tmp_path / "second", "second"))
    assert "gone" in str(error_of(caught))
    assert (tmp_path / "second").is_dir()
    assert not dataset.exists()
    monkeypatch.undo()
    dataset.save(make_package(tmp_path / "third", "third"))
    assert dataset.exists()


def test_a_remote_file_that_changed_is_an_error(tmp_path: Path, storage: MemoryFileSystem) -> None:
    dataset = PackageDataset(filepath="memory://bucket/pack")
    dataset.save(make_package(tmp_path / "first", "first"))
    storage.pipe_file("/bucket/pack/model.py", b"other")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DatasetError) as caught:
        PackageDataset(filepath="memory://bucket/pack").load()
    assert "differ from their listing" in str(error_of(caught))


def test_a_folder_that_others_have_copied_there_is_read(tmp_path: Path, storage: MemoryFileSystem) -> None:
    package = make_package(tmp_path / "made", "by hand")
    for path in package.folder.iterdir():
        storage.put_file(str(path), f"/bucket/pack/{path.name}")
    loaded = PackageDataset(filepath="memory://bucket/pack").load()
    assert loaded is not None
    assert loaded.manifest["content"] == "by hand"


def test_names_in_a_listing_do_not_lead_out_of_the_folder(tmp_path: Path, storage: MemoryFileSystem) -> None:
    entry = '{"files": {"../../evil": {"size": 1, "sha256": "x"}, "manifest.json": {"size": 2, "sha256": "x"}}}'
    storage.pipe_file("/bucket/pack/foundry_files.json", entry.encode())
    storage.pipe_file("/bucket/pack/manifest.json", b"{}")
    with pytest.raises(DatasetError):
        PackageDataset(filepath="memory://bucket/pack").load()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [TokenizerDataset, PackageDataset])
def test_versions_are_kept_side_by_side(kind: Any, tmp_path: Path) -> None:
    for where in ("memory://bucket/versions", str(tmp_path / "a [b] folder")):
        entry = {"type": kind, "filepath": where, "versioned": True}
        things = (
            [make_package(tmp_path / f"{len(where)}{text}", text) for text in ("first", "second")]
            if kind is PackageDataset
            else [prepare(task, tmp_path / f"{len(where)}{task}")[1] for task in ("causal_lm", "masked_lm")]
        )
        catalog = DataCatalog.from_config({"kept": entry}, save_version="2026-01-01T00.00.00.000Z")
        assert not catalog.exists("kept")
        catalog.save("kept", things[0])
        later = DataCatalog.from_config({"kept": entry}, save_version="2026-01-02T00.00.00.000Z")
        later.save("kept", things[1])
        pinned = DataCatalog.from_config({"kept": entry}, load_versions={"kept": "2026-01-01T00.00.00.000Z"})
        newest = DataCatalog.from_config({"kept": entry})
        described = [
            thing.manifest["content"] if kind is PackageDataset else thing.digest()
            for thing in (pinned.load("kept"), newest.load("kept"))
        ]
        expected = ["first", "second"] if kind is PackageDataset else [thing.digest() for thing in things]
        assert described == expected
        third = DataCatalog.from_config({"kept": entry}, save_version="2026-01-03T00.00.00.000Z")
        third.save("kept", pinned.load("kept"))  # as a node that keeps an earlier result does
        assert pinned.exists("kept")


def test_wrong_credentials_are_an_error_and_not_a_missing_folder(tmp_path: Path) -> None:
    for kind in (TokenizerDataset, TokenSplitsDataset, PackageDataset, AtomicJSONDataset):
        dataset: Any = kind(filepath="closed://bucket/x", credentials={"password": "wrong"})
        for call in (dataset.exists, lambda dataset=dataset: load_earlier(dataset, "x")):
            with pytest.raises((DatasetError, DataError)) as caught:
                call()
            assert "closed://bucket/x cannot be read" in str(error_of(caught))
        assert "wrong" not in repr(dataset)
        right: Any = kind(filepath="closed://bucket/x", credentials={"password": "right"})
        assert load_earlier(right, "x") is None


def test_a_read_only_bucket_is_an_error_and_the_package_stays(tmp_path: Path) -> None:
    package = make_package(tmp_path / "made", "mine")
    arguments = {"credentials": {"password": "right"}, "fs_args": {"read_only": True}}
    with pytest.raises(DatasetError) as caught:
        PackageDataset(filepath="closed://bucket/pack", **arguments).save(package)  # type: ignore[arg-type]
    assert isinstance(error_of(caught), DataError)
    assert package.folder.is_dir()


def test_a_model_behind_fsspec_needs_approval(tmp_path: Path, storage: MemoryFileSystem) -> None:
    for name in ("model.py", "config.json"):
        storage.put_file(str(SAMPLES / "gpt" / name), f"/bucket/gpt/{name}")
    arguments: dict[str, Any] = {"source": "memory://bucket/gpt", "cache_dir": str(tmp_path / "downloads")}
    with pytest.raises(DatasetError) as caught:
        ModelExportDataset(**arguments).load()
    assert isinstance(error_of(caught), ModelError)
    export = ModelExportDataset(**arguments, trust_code=True).load()
    assert (export.name, export.is_local, export.source) == ("SampleGPT", False, "memory://bucket/gpt")


def test_a_comparison_is_kept_behind_fsspec_and_exists_when_it_is_finished() -> None:
    result = CandidateResult("k", "gpt", 0, 1, 1, 1, 1.0, float("nan"), None, None, "test", 1.0, 1.0, None, remaining=1)
    dataset = ComparisonDataset(filepath="memory://bucket/comparison.jsonl")
    assert (dataset.exists(), dataset.is_readable()) == (False, False)
    dataset.save(result)
    again = ComparisonDataset(filepath="memory://bucket/comparison.jsonl")
    assert (again.exists(), again.is_readable(), len(again.load())) == (False, True, 1)


def test_remote_entries_can_be_pickled() -> None:
    for kind in (TokenizerDataset, TokenSplitsDataset, PackageDataset, AtomicJSONDataset, FigureDataset):
        dataset: Any = kind(filepath=f"{URL}/x")
        assert repr(pickle.loads(pickle.dumps(dataset))) == repr(dataset)
