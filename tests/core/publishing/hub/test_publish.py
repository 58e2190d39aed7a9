"""Publishing: the real client, in a process of its own, against a Hub on the loopback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.export import small_models
from tests.core.publishing.packaging import make_package, write_export
from tests.loopback.hub_client import HubClient
from tests.loopback.mini_hub import MiniHub
from transformer_foundry.core.files.atomic import sha256_of, write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(write_export(tmp_path_factory.mktemp("export") / "gpt", small_models.RotaryGpt))[1].folder


@pytest.fixture(scope="module")
def hub() -> Iterator[MiniHub]:
    with MiniHub({"hf_alice": "alice", "hf_bob": "bob", "hf_reader": "alice"}) as server:
        server.readers = {"hf_reader"}
        yield server


@pytest.fixture(scope="module")
def client(hub: MiniHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    with HubClient(hub, tmp_path_factory.mktemp("home")) as process:
        yield process


def changed(folder: Path, target: Path, name: str, text: str) -> Path:
    """A copy of a package with one file more (or another), as a later release would have it."""
    shutil.copytree(folder, target)
    (target / name).write_text(text)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": sha256_of(target / name), "size_bytes": (target / name).stat().st_size}
    write_json(target / "manifest.json", manifest)
    return target


def contents(hub: MiniHub, repo_id: str) -> dict[str, bytes]:
    return {name: file.data for name, file in hub.repo(repo_id).head.files.items() if name != ".gitattributes"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_one_commit_holds_the_whole_package_and_each_release_has_a_number(
    hub: MiniHub, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    published = client.publish(folder, "alice/whole")
    repo = hub.repo("alice/whole")
    address = {"repo_id": "alice/whole", "revision": repo.head.oid, "url": f"{hub.url}/alice/whole"}
    assert published == address | {"tag": "v1", "difference": 0.0}
    assert (len(repo.commits), repo.private, repo.tags) == (2, True, {"v1": repo.head.oid})
    assert contents(hub, "alice/whole") == files_of(folder)
    # The same is no release; another package is, and what only the earlier one had goes in the same commit.
    more = changed(folder, tmp_path / "more", "notes.txt", "one more file")
    assert [client.publish(where, "alice/whole")["tag"] for where in (folder, more)] == ["v1", "v2"]
    assert contents(hub, "alice/whole") == files_of(more)
    assert client.publish(folder, "alice/whole")["tag"] == "v3"
    assert len(repo.commits) == 4
    assert contents(hub, "alice/whole") == files_of(folder)


FAULTS: dict[str, list[Any]] = {
    "before the commit": [
        lambda hub: hub.fail_next(429, times=2, path="/api/models/*", retry_after_s=0),
        lambda hub: hub.fail_next(503, method="POST", path="*/commit/main"),
        lambda hub: hub.fail_next(412, method="POST", path="*/commit/main"),
        lambda hub: hub.cut_next(method="POST", path="*/commit/main"),
    ],
    "after it": [
        lambda hub: hub.cut_next(method="POST", path="*/commit/main", after=True),
        lambda hub: hub.cut_next(method="POST", path="*/tag/*", after=True),
    ],
}


@pytest.mark.parametrize("when", FAULTS)
def test_a_step_that_failed_is_done_once(hub: MiniHub, client: HubClient, folder: Path, when: str) -> None:
    repo_id = f"alice/{when.replace(' ', '-')}"
    for inject in FAULTS[when]:
        inject(hub)
    published = client.publish(folder, repo_id)
    repo = hub.repo(repo_id)
    assert hub.faults == []
    assert (published["difference"], published["tag"]) == (0.0, "v1")
    assert (len(repo.commits), repo.tags) == (2, {"v1": repo.head.oid})


def test_the_pause_is_what_the_hub_asks_for() -> None:
    from types import SimpleNamespace

    from transformer_foundry.core.publishing.hub.errors import _pause

    def refusal(asked: str) -> Any:
        return SimpleNamespace(response=SimpleNamespace(headers={"Retry-After": asked}))

    assert _pause(refusal("7"), 1) == 7
    assert _pause(refusal("100000"), 1) == 300
    assert [_pause(refusal("Wed, 21 Oct 2026"), attempt) for attempt in (1, 2, 3)] == [1, 2, 4]


def test_a_repository_with_other_files_is_refused_without_overwrite(
    hub: MiniHub, client: HubClient, folder: Path
) -> None:
    repo = hub.store.create("models", "alice/other", "alice")
    hub.store.apply(repo, "main", [{"key": "file", "value": {"path": "notes.md", "content": "mine"}}], "alice")
    refusal = client.publish(folder, "alice/other")
    assert "holds something else" in refusal["problem"]
    assert "notes.md" in refusal["problem"]
    assert "hub_overwrite" in refusal["remedy"]
    assert list(contents(hub, "alice/other")) == ["notes.md"]
    client.publish(folder, "alice/other", overwrite=True)
    assert contents(hub, "alice/other") == files_of(folder) | {"notes.md": b"mine"}


def test_releases_are_listed_compared_and_restored(
    hub: MiniHub, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    more = changed(folder, tmp_path / "more", "notes.txt", "one more file")
    first, second = (client.publish(where, "alice/versions") for where in (folder, more))
    versions = "transformer_foundry.core.publishing.hub.releases:"
    options = {"token": "hf_alice", "endpoint": hub.url}

    def listed() -> list[tuple[str, bool]]:
        found = client.call(f"{versions}list_releases", "alice/versions", **options)
        return [(item["tag"], item["is_current"]) for item in found]

    assert listed() == [("v1", False), ("v2", True)]
    found = client.call(f"{versions}compare_releases", "alice/versions", "v1", "v2", **options)
    assert list(found) == ["file.notes.txt"]
    hub.cut_next(method="POST", path="*/commit/main", after=True)
    for _ in range(2):
        client.call(f"{versions}roll_back", "alice/versions", "v1", **options)
    assert listed() == [("v1", True), ("v2", False)]
    assert contents(hub, "alice/versions") == files_of(folder)
    assert len(hub.repo("alice/versions").commits) == 4
    digests = [sha256_of(where / "manifest.json") for where in (more, folder)]
    for release, digest in zip((second, first), digests, strict=True):
        marked = ("alice/versions", "production", release["revision"])
        client.call(f"{versions}mark_release", *marked, digest, **options)
        assert hub.repo("alice/versions").tags["production"] == release["revision"]
    # A registry that came from elsewhere may name any repository.
    answer = client.call(f"{versions}mark_release", "alice/versions", "production", second["revision"], "0", **options)
    assert "does not hold this package" in answer["problem"]
    assert hub.repo("alice/versions").tags["production"] == first["revision"]
    answer = client.call(f"{versions}roll_back", "alice/versions", "v7", **options)
    assert answer["problem"].startswith("alice/versions has no release 'v7'.")
    answer = client.call(f"{versions}list_releases", "alice/verisons", **options)
    assert answer["problem"].startswith("There is no model alice/verisons on the Hub")


def test_a_catalog_entry_publishes_and_loads(hub: MiniHub, client: HubClient, folder: Path) -> None:
    loaded = client.call("tests.core.publishing.hub.test_publish:save_and_load", str(folder), "alice/entry")
    assert loaded == json.loads((folder / "manifest.json").read_text())
    assert hub.repo("alice/entry").tags == {"v1": hub.repo("alice/entry").head.oid}


def save_and_load(folder: str, repo_id: str) -> Any:
    """For the client: a catalog entry of its own."""
    from transformer_foundry.core.publishing import read_package
    from transformer_foundry.datasets import HubPackageDataset

    os.environ["HF_TOKEN"] = "hf_alice"
    entry = HubPackageDataset(repo_id=repo_id, revision="v1")
    try:
        entry.save(read_package(folder))
        return entry.load().manifest
    finally:
        del os.environ["HF_TOKEN"]


def test_a_published_file_that_differs_is_detected_and_not_released(
    hub: MiniHub, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    revision = client.publish(folder, "alice/differs")["revision"]
    # The package on disk has other weights than the ones that its manifest says were published.
    other = shutil.copytree(folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, other / "model.safetensors",
              metadata={"format": "pt", "aliases": json.dumps({"lm_head.weight": "wte.weight"})})  # fmt: skip
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["files"]["model.safetensors"]["sha256"] = sha256_of(other / "model.safetensors")
    write_json(other / "manifest.json", manifest)
    answer = client.call(
        "tests.core.publishing.hub.test_publish:compare", str(other), "alice/differs", revision, hub.url
    )
    assert "differs from the package by" in answer["problem"]


def test_the_process_that_reloads_a_release_has_no_token(
    hub: MiniHub, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    program = "import os\nraise SystemExit('sees ' + ' '.join(sorted(os.environ)))"
    curious = changed(folder, tmp_path / "curious", "load_example.py", program)
    names = client.publish(curious, "alice/curious")["problem"].split("sees ")[1].split()
    assert "HF_HUB_OFFLINE" in names
    assert not {"HF_TOKEN", "HF_ENDPOINT"} & set(names)
    assert hub.repo("alice/curious").tags == {}


def compare(folder: str, repo_id: str, revision: str, endpoint: str) -> float:
    """For the client: what ``publish`` does after its commit."""
    from transformer_foundry.core.publishing import read_package
    from transformer_foundry.core.publishing.hub.verify_published import verify_published

    return verify_published(read_package(folder), repo_id, revision, token="hf_alice", endpoint=endpoint)


@pytest.mark.parametrize(
    ("repo_id", "token", "problem"),
    [
        ("alice/gpt", None, "There is no token"),
        ("alice/gpt", "hf_unknown", "does not accept the token"),
        ("alice/gpt", "hf_bob", "may not write to alice/gpt"),
        ("alice/gpt", "hf_reader", "The token 'test' may only read"),
        ("alice/text", "hf_alice", "alice/text is a dataset"),
        ("gpt", "hf_alice", "cannot be the name"),
    ],
)
def test_a_refusal_names_the_problem_and_the_remedy(
    hub: MiniHub, client: HubClient, folder: Path, repo_id: str, token: str | None, problem: str
) -> None:
    if ("datasets", "alice/text") not in hub.store.repos:
        hub.store.create("datasets", "alice/text", "alice")
        hub.store.create("models", "alice/gpt", "alice", private=False)
    answer = client.publish(folder, repo_id, token=token)
    assert problem in answer["problem"]
    assert "HF_TOKEN" in answer["remedy"] or "deployment.hub_repo" in answer["remedy"]
    if "token" in problem:
        assert f"kedro hub publish {folder} {repo_id}" in answer["remedy"]


def test_a_package_without_a_requested_format_is_not_published(
    hub: MiniHub, client: HubClient, folder: Path, tmp_path: Path
) -> None:
    lame = shutil.copytree(folder, tmp_path / "lame")
    manifest = json.loads((lame / "manifest.json").read_text())
    wrong = {
        "format": "onnx",
        "status": "failed",
        "stage": "parity",
        "reason": "differs from the model by 0.3 at (batch, length) = (4, 1)",
    }
    write_json(lame / "manifest.json", manifest | {"formats": [*manifest["formats"], wrong]})
    assert "onnx differs from the model by 0.3" in client.publish(lame, "alice/lame")["problem"]
    assert ("models", "alice/lame") not in hub.store.repos


def test_without_a_network_the_command_for_later_is_given(tmp_path: Path, folder: Path) -> None:
    gone = MiniHub()
    with gone:
        pass
    with HubClient(gone, tmp_path / "home") as client:
        answer = client.publish(folder, "alice/gpt")
    assert "cannot be reached" in answer["problem"]
    assert f"kedro hub publish {folder} alice/gpt" in answer["remedy"]
