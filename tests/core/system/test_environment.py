from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_foundry.core.system.environment import describe_environment, git_revision, package_versions


def test_the_environment_is_described_in_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kedro", "run"])
    found = describe_environment()
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["command"] == sys.argv


def test_the_command_of_a_module_is_written_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/site-packages/kedro/__main__.py", "run", "--params", "a=1"])
    assert describe_environment()["command"] == ["python", "-m", "kedro", "run", "--params", "a=1"]


def test_versions_are_those_of_the_installed_packages() -> None:
    import torch

    # The name of the build (+cpu, +cu130) is not always in the metadata.
    assert package_versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_a_package_that_is_not_installed_is_left_out() -> None:
    assert package_versions(("no-such-package",)) == {}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_revision_is_the_commit_and_says_when_files_differ(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "v1")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert git_revision(tmp_path) == revision
    (tmp_path / "file").write_text("two")
    assert git_revision(tmp_path) == f"{revision}-dirty"


def test_a_folder_outside_a_repository_has_no_revision(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    assert git_revision(tmp_path / "nowhere") is None


def test_describing_the_environment_imports_no_library() -> None:
    program = (
        "import sys; from transformer_foundry.core.system.environment import describe_environment as describe; "
        "describe(); "
        "print([name for name in ('torch', 'transformers', 'kedro') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"
