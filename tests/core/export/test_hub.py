"""Publishing: the real client, in a process of its own, against a Hub on the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.core.export import small_models
from tests.core.export.packaging import make_package, run_alone, write_export
from tests.loopback.mini_hub import MiniHub
from transformer_foundry.core.export import Package, read_package
from transformer_foundry.core.export.reference import reference_inputs
from transformer_foundry.core.exports import Adapter

PUBLISH = """
import json, sys
from transformer_foundry.core.errors import DeploymentError
from transformer_foundry.core.export import hub
hub._PAUSE_S = 0.01
folder, repo_id, token = sys.argv[1:]
try:
    print(json.dumps(hub.publish(folder, repo_id, token=token or None)))
except DeploymentError as err:
    print(json.dumps({"problem": err.problem, "remedy": err.remedy}))
"""
DOWNLOAD = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1], revision=sys.argv[2]))"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Package]:
    return make_package(write_export(tmp_path_factory.mktemp("export") / "gpt", small_models.RotaryGpt))


@pytest.fixture(scope="module")
def hub() -> Iterator[MiniHub]:
    with MiniHub({"hf_alice": "alice", "hf_bob": "bob"}) as server:
        yield server


def run(hub: MiniHub, tmp_path: Path, code: str, *arguments: str) -> str:
    environment = os.environ | hub.env(home=tmp_path / "home") | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip().splitlines()[-1]


def publish(hub: MiniHub, tmp_path: Path, folder: Path, repo_id: str, token: str = "hf_alice") -> dict[str, Any]:
    return json.loads(run(hub, tmp_path, PUBLISH, str(folder), repo_id, token))


def test_one_commit_holds_the_whole_package(hub: MiniHub, tmp_path: Path, made: tuple[Adapter, Package]) -> None:
    folder = made[1].folder
    published = publish(hub, tmp_path, folder, "alice/whole")
    repo = hub.repo("alice/whole")
    assert published == {"repo_id": "alice/whole", "revision": repo.head.oid, "url": f"{hub.url}/alice/whole"}
    assert len(repo.commits) == 2
    assert repo.private
    stored = {name: file.data for name, file in repo.head.files.items() if name != ".gitattributes"}
    assert stored == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_publishing_again_makes_no_commit(hub: MiniHub, tmp_path: Path, made: tuple[Adapter, Package]) -> None:
    first = publish(hub, tmp_path, made[1].folder, "alice/again")
    assert publish(hub, tmp_path, made[1].folder, "alice/again") == first
    assert len(hub.repo("alice/again").commits) == 2


def test_the_published_revision_gives_the_models_logits(
    hub: MiniHub, tmp_path: Path, made: tuple[Adapter, Package]
) -> None:
    adapter, package = made
    revision = publish(hub, tmp_path, package.folder, "alice/reloaded")["revision"]
    folder = Path(
        run(hub, tmp_path, "import os; os.environ['HF_TOKEN'] = 'hf_alice'\n" + DOWNLOAD, "alice/reloaded", revision)
    )
    assert read_package(folder).manifest == package.manifest
    inputs = reference_inputs(adapter.contract, 0)(3, 11)
    save_file(inputs, tmp_path / "inputs")
    code = (
        "import torch, sys; from load_example import load_model; from safetensors.torch import load_file, save_file\n"
        "with torch.no_grad(): save_file({'logits': load_model()(**load_file(sys.argv[1]))}, sys.argv[2])"
    )
    run_alone(folder, str(tmp_path / "inputs"), str(tmp_path / "logits"), code=code)
    with torch.no_grad():
        torch.testing.assert_close(load_file(tmp_path / "logits")["logits"], adapter(**inputs))


def test_a_format_of_an_earlier_package_is_deleted_and_other_files_stay(
    hub: MiniHub, tmp_path: Path, made: tuple[Adapter, Package]
) -> None:
    repo = hub.store.create("models", "alice/stale", "alice")
    lines = [{"key": "file", "value": {"path": "notes.md", "content": "mine"}}]
    hub.store.keep_lfs(oid := "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", b"foo")
    lines.append({"key": "lfsFile", "value": {"path": "model.onnx", "oid": oid, "size": 3}})
    hub.store.apply(repo, "main", lines, "alice")
    publish(hub, tmp_path, made[1].folder, "alice/stale")
    assert "model.onnx" not in repo.head.files
    assert repo.head.files["notes.md"].data == b"mine"


@pytest.mark.parametrize("status", [412, 429, 503])
def test_a_commit_that_fails_once_is_made_once(
    hub: MiniHub, tmp_path: Path, made: tuple[Adapter, Package], status: int
) -> None:
    hub.fail_next(status, method="POST", path="*/commit/main")
    publish(hub, tmp_path, made[1].folder, f"alice/retried-{status}")
    assert len(hub.repo(f"alice/retried-{status}").commits) == 2


@pytest.mark.parametrize(
    ("repo_id", "token", "problem"),
    [
        ("alice/gpt", "", "There is no token"),
        ("alice/gpt", "hf_unknown", "does not accept the token"),
        ("alice/gpt", "hf_bob", "may not write to alice/gpt"),
        ("alice/text", "hf_alice", "alice/text is a dataset"),
        ("gpt", "hf_alice", "cannot be the name"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    hub: MiniHub, tmp_path: Path, made: tuple[Adapter, Package], repo_id: str, token: str, problem: str
) -> None:
    if ("datasets", "alice/text") not in hub.store.repos:
        hub.store.create("datasets", "alice/text", "alice")
        hub.store.create("models", "alice/gpt", "alice", private=False)
    answer = publish(hub, tmp_path, made[1].folder, repo_id, token)
    assert problem in answer["problem"]
    assert "HF_TOKEN" in answer["remedy"] or "deployment.hub_repo" in answer["remedy"]


def test_without_a_network_the_command_for_later_is_given(tmp_path: Path, made: tuple[Adapter, Package]) -> None:
    gone = MiniHub()
    with gone:
        pass
    answer = publish(gone, tmp_path, made[1].folder, "alice/gpt")
    assert "cannot be reached" in answer["problem"]
    assert "--params deployment.hub_repo=alice/gpt" in answer["remedy"]
