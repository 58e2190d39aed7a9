"""A registry or a package from someone else changes nothing outside the registry and takes nothing from there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.core.publishing.registry.test_registry import package
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.atomic import write_json
from transformer_foundry.core.publishing import Package, Registry, read_package

REGISTERED = {"event": "registered", "name": "gpt", "version": 1, "alias": "candidate", "package_sha256": "a" * 64,
              "registered_at": "2026-01-01T00:00:00Z", "data_fingerprint": None, "metrics": {"loss": 2.0},
              "lineage": {"run": "r", "step": 7}}  # fmt: skip
PUBLISHED = {"event": "published", "name": "gpt", "version": 1, "repo_id": "a/b", "tag": "v1", "revision": "c"}
ALIAS = {"event": "alias", "name": "gpt", "alias": "production", "version": 1}
ROLLED_BACK = {"event": "rolled back", "name": "gpt", "alias": "candidate"}


def write_log(folder: Path, *events: object) -> Registry:
    """Write a log as anyone can: the checksums have no key."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(event, sort_keys=True) for event in events]
    checks = [hashlib.sha256(line.encode()).hexdigest()[:16] for line in lines]
    (folder / "log.jsonl").write_text("".join(f"{a} {b}\n" for a, b in zip(checks, lines, strict=True)))
    return Registry(folder)


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


FOREIGN: dict[str, list[object]] = {
    "a version that is a path": [REGISTERED | {"version": "x/../../../precious"}],
    "a version that is no number": [REGISTERED | {"version": True}],
    "a version again": [REGISTERED, REGISTERED],
    "an earlier version": [REGISTERED | {"version": 2}, REGISTERED],
    "a version below 1": [REGISTERED | {"version": 0}],
    "a huge version": [REGISTERED | {"version": 10**30}],
    "a name that is a path": [REGISTERED | {"name": "../precious"}],
    "a name with marks of references": [REGISTERED | {"name": "a:b"}],
    "no name": [without(REGISTERED, "name")],
    "a folder": [REGISTERED | {"folder": "/"}],
    "publications of a registration": [REGISTERED | {"publications": ["x"]}],
    "metrics that are no numbers": [REGISTERED | {"metrics": {"loss": "2"}}],
    "lineage that is no mapping": [REGISTERED | {"lineage": [1]}],
    "a digest that is no text": [REGISTERED | {"package_sha256": None}],
    "an alias that is no text": [REGISTERED | {"alias": ["a"]}],
    "an unknown event": [REGISTERED, {"event": "deleted", "name": "gpt"}],
    "an event that cannot be hashed": [{"event": []}],
    "no event": [[1]],
    "a release of an unknown version": [REGISTERED, PUBLISHED | {"version": 2}],
    "a release without a tag": [REGISTERED, without(PUBLISHED, "tag")],
    "an alias of an unknown version": [REGISTERED, ALIAS | {"version": 3}],
    "an alias of an unknown model": [ALIAS],
    "more ways back than promotions": [REGISTERED, ROLLED_BACK],
}


@pytest.mark.parametrize("events", FOREIGN.values(), ids=FOREIGN)
def test_a_line_that_is_no_event_of_a_registry_is_named(tmp_path: Path, events: list[object]) -> None:
    with pytest.raises(DeploymentError, match=rf"Line {len(events)} of .*log\.jsonl is damaged: ") as caught:
        write_log(tmp_path / "registry", *events).versions()
    assert len(str(caught.value).splitlines()) == 3


def test_a_log_after_a_line_was_deleted_is_read(tmp_path: Path) -> None:
    third = REGISTERED | {"version": 3}
    registry = write_log(
        tmp_path / "registry", REGISTERED, third, PUBLISHED | {"version": 3}, ALIAS, ALIAS | {"version": 3}, PUBLISHED
    )
    assert [item.version for item in registry.versions()["gpt"]] == [1, 3]
    assert (registry.find("gpt@production").version, registry.find("gpt@candidate").version) == (3, 3)
    assert [len(registry.find(name).publications) for name in ("gpt:1", "gpt:3")] == [1, 1]
    assert registry.register(package(tmp_path / "a", 2.0)).version == 4


def test_a_log_from_elsewhere_deletes_no_folder_outside(tmp_path: Path) -> None:
    own = package(tmp_path / "own", 2.0)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    (tmp_path / "data" / "registry" / "gpt" / "vx").mkdir(parents=True)
    event = REGISTERED | {"version": "x/../../../../precious", "package_sha256": own.digest}
    with pytest.raises(DeploymentError, match="Line 1"):
        write_log(tmp_path / "data" / "registry", event).register(own)
    assert (precious / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("events", [[], [REGISTERED]], ids=["a new version", "a damaged version"])
def test_a_folder_outside_that_a_registry_links_to_is_kept(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    own = package(tmp_path / "own", 2.0)
    home = tmp_path / "home"
    (home / "v1").mkdir(parents=True)
    (home / "v1" / "thesis.txt").write_text("years of work")
    registry = write_log(tmp_path / "registry", *(event | {"package_sha256": own.digest} for event in events))
    (registry.folder / "gpt").symlink_to(home)
    with pytest.raises(DeploymentError, match="is a link to"):
        registry.register(own)
    assert sorted(os.listdir(home)) == ["v1"]
    assert (home / "v1" / "thesis.txt").exists()


def listing(own: Package, **files: Any) -> Package:
    """Write the package's manifest again, with ``files`` listed in it too."""
    manifest = dict(own.manifest) | {"files": {**own.manifest["files"], **files}}
    write_json(own.folder / "manifest.json", manifest)
    return Package(own.folder, manifest)


@pytest.mark.parametrize("name", ["README.md", "weights/part.txt", "manifest.json"])
def test_a_package_that_links_to_a_file_outside_is_no_package(tmp_path: Path, name: str) -> None:
    own = package(tmp_path / "own", 2.0)
    secret = tmp_path / "token"
    (own.folder / name).parent.mkdir(exist_ok=True)
    secret.write_bytes((own.folder / name).read_bytes() if name == "manifest.json" else b"hf_secret")
    if name != "manifest.json":
        listing(own, **{name: {"sha256": hashlib.sha256(b"hf_secret").hexdigest(), "size_bytes": 9}})
    (own.folder / name).unlink(missing_ok=True)
    (own.folder / name).symlink_to(secret)
    with pytest.raises(DeploymentError, match=f"{name} of the package in .* leads out of it, to .*token"):
        read_package(own.folder)


@pytest.mark.parametrize("name", ["../token", "a/../../token", "/etc/passwd", "a\\b", "a\0b"])
def test_a_name_that_leads_out_of_a_package_is_refused(tmp_path: Path, name: str) -> None:
    own = package(tmp_path / "own", 2.0)
    (tmp_path / "token").write_bytes(b"hf_secret")
    listing(own, **{name: {"sha256": hashlib.sha256(b"hf_secret").hexdigest(), "size_bytes": 9}})
    with pytest.raises(DeploymentError, match="leads out of it"):
        read_package(own.folder)


@pytest.mark.parametrize("files", [[], 1, {"a": 1}, {"a": {}}], ids=str)
def test_a_manifest_without_a_listing_is_named(tmp_path: Path, files: object) -> None:
    own = package(tmp_path / "own", 2.0)
    write_json(own.folder / "manifest.json", dict(own.manifest) | {"files": files})
    with pytest.raises(DeploymentError, match="There is no complete package"):
        read_package(own.folder)


def test_a_snapshot_of_the_hub_s_cache_is_a_package(tmp_path: Path) -> None:
    own = package(tmp_path / "models--a--b" / "snapshots" / "rev", 2.0)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for path in list(own.folder.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(Path("..", "..", "blobs", path.name))
    kept = Registry(tmp_path / "registry").register(read_package(own.folder))
    assert [path.is_symlink() for path in kept.folder.iterdir()] == [False, False]
    assert read_package(kept.folder).digest == own.digest


def test_only_the_files_of_the_manifest_and_the_card_are_registered(tmp_path: Path) -> None:
    own = package(tmp_path / "own", 2.0)
    (tmp_path / "token").write_text("hf_secret")
    (own.folder / "notes").symlink_to("../token")
    for name in "uvw":
        (own.folder / name).symlink_to(".")
    (own.folder / "README.md").write_text("edited by hand")
    kept = Registry(tmp_path / "registry").register(own)
    assert sorted(os.listdir(kept.folder)) == ["README.md", "manifest.json", "model.safetensors"]


def test_a_package_whose_manifest_has_other_types_is_not_registered(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    with pytest.raises(DeploymentError, match=r"cannot be registered: data_fingerprint cannot be \[1\]"):
        registry.register(package(tmp_path / "own", 2.0, data=[1]))  # type: ignore[arg-type]
    assert registry.versions() == {}
