"""pip itself, with the real package index, installs the project beside Colab's packages and touches none of them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.colab import PYTHONS, cannot_reach_an_index, colab_packages
from tests.colab.test_requirements import ADDED
from tests.integration.foundry import PROJECT

MARK = "colab"
"""Local version of what stands for an installed package: pip can have it from nowhere else."""


def stand_ins(packages: dict[str, str], folder: Path) -> dict[str, str]:
    """Write a wheel without content or requirements for each package and return the versions that they have.

    What Colab has is taken to agree with itself: it is installed already, and its torch is not the one of the index.
    """
    made = {}
    for name, version in packages.items():
        made[name] = f"{version}{'.' if '+' in version else '+'}{MARK}"
        stem = f"{canonicalize_name(name).replace('-', '_')}-{made[name]}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {made[name]}\n"
            wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return made


def resolve(python: str, folder: Path, requirements: list[str]) -> dict[str, str]:
    """Return what pip would have afterwards, by name, when it may change nothing of what Colab has.

    The notebook writes every installed version into a file of constraints; so does this.
    """
    versions = stand_ins(colab_packages(python), folder)
    (folder / "live.txt").write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--python-version", python, "--only-binary=:all:", "--target", str(folder / "none")]
    command += ["--find-links", str(folder), "--constraint", str(folder / "live.txt")]
    command += ["--report", str(folder / "report.json"), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode and cannot_reach_an_index(done.stderr):
        pytest.skip("pip reaches no package index here")
    assert done.returncode == 0, done.stderr[-3000:]
    installs = json.loads((folder / "report.json").read_text())["install"]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"] for item in installs}


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_pip_adds_what_colab_lacks_and_changes_nothing_that_it_has(python: str, tmp_path: Path) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    resolved = resolve(python, tmp_path, project["dependencies"])
    added = {name for name, version in resolved.items() if not version.endswith(MARK)}
    assert added >= ADDED
    assert not added & {canonicalize_name(name) for name in colab_packages(python)}


def test_a_requirement_that_colab_does_not_meet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="numpy"):
        resolve("3.13", tmp_path, ["numpy>=2.2", "--no-index"])
