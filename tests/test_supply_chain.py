"""The requirements are those that are imported; the locked versions are those that are tested, with hashes."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foundry import PROJECT


def versions(file: str) -> dict[str, str]:
    """Name -> version without the part that names a build (``+cpu``)."""
    lines = (PROJECT / file).read_text().splitlines()
    found = [re.match(r"([\w.-]+)==([^\s;+]+)", line) for line in lines]
    return {item[1].lower().replace("_", "-").replace(".", "-"): item[2] for item in found if item}


def test_every_locked_version_is_that_of_the_constraints_and_has_a_hash() -> None:
    locked, constraints = versions("requirements.lock"), versions("constraints.txt")
    assert len(locked) > 100
    assert {name: constraints.get(name) for name in locked} == locked
    for file in ("requirements.lock", "requirements-cpu.lock", "requirements-cuda.lock"):
        first, *lines = (PROJECT / file).read_text().splitlines()
        assert first.startswith("# The tested set with hashes: Python 3.11")
        assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert versions("requirements-cpu.lock") == {"torch": constraints["torch"]}
    assert versions("requirements-cuda.lock")["torch"] == constraints["torch"]


def test_what_foundry_needs_is_locked() -> None:
    needed = {"torch", "kedro", "transformers", "datasets", "huggingface-hub", "wandb", "optuna", "safetensors"}
    assert needed <= {*versions("requirements.lock"), *versions("requirements-cpu.lock")}


BROUGHT_ALONG = {
    "click": "kedro",
    "omegaconf": "kedro",
    "pluggy": "kedro",
    "yaml": "kedro",
    "numpy": "pandas",
    "markupsafe": "jinja2",
    "sympy": "torch",
    "fsspec": "datasets",
    "pyarrow": "datasets",
    "sqlalchemy": "optuna",
    "onnx-ir": "onnxscript",
    "packaging": "transformers",
    "ipython": "the notebook's kernel",
    "yarl": "aiohttp",
}
"""Imported package -> what installs it. A requirement of our own could replace the version that Colab has loaded."""

OPTIONAL = {
    "lingua": "lingua-language-detector",
    "rouge-score": "rouge-score",
    "sacrebleu": "sacrebleu",
    "gguf": "gguf",
}
"""Imported package -> what installs it, of the extras "text" and "gguf"."""

USED_IF_THERE = ("llama-cpp",)
"""Imported packages that no extra installs: llama-cpp-python compiles llama.cpp."""

NOT_IMPORTED: dict[str, str] = {}
"""Requirement that no module imports -> its purpose."""


def imported() -> set[str]:
    """Return the distributions that the package imports; code of published packages (templates) has its own list."""
    found = set()
    for path in (PROJECT / "src").rglob("*.py"):
        if "templates" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return {name.lower().replace("_", "-") for name in found - sys.stdlib_module_names - {"transformer_foundry"}}


def test_the_requirements_are_the_imported_packages() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"]
    required = {re.split(r"[<>=]", line)[0].replace("_", "-") for line in lines}
    assert required - imported() == set(NOT_IMPORTED)
    assert imported() - required == {*BROUGHT_ALONG, *OPTIONAL, *USED_IF_THERE}
    extras = [line for name in ("text", "gguf") for line in project["optional-dependencies"][name]]
    assert [re.split(r"[<>=]", line)[0] for line in extras] == list(OPTIONAL.values())


BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    make_wheel(folder, "small", "1.0")
    return "small-1.0-py3-none-any.whl"

def make_wheel(folder, name, version):
    with zipfile.ZipFile(f"{folder}/{name}-{version}-py3-none-any.whl", "w") as wheel:
        about = f"{name}-{version}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{about}/RECORD", "")
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "small"
version = "1.0"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our Makefile that locks the wheels part 1.0 and torch 2.13.0+cpu."""
    shutil.copytree(PROJECT / ".ci", tmp_path / ".ci")
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "constraints.txt").write_text("part==1.0\n")
    write_lock(tmp_path, ("part", "1.0"), ("torch", "2.13.0"), ("nvidia-cublas", "13.1"))
    write_lock(tmp_path, ("part", "1.0"), ("torch", "2.13.0+cpu"))
    return tmp_path


def write_lock(project: Path, *wheels: tuple[str, str]) -> None:
    """Make wheels and lock them as ``make lock`` does, from pip's report."""
    items: list[dict[str, Any]] = [{"metadata": {"name": "small", "version": "1.0"}, "download_info": {}}]
    for name, version in wheels:
        make = f"import backend; backend.make_wheel('.', '{name.replace('-', '_')}', '{version}')"
        subprocess.run([sys.executable, "-c", make], cwd=project, check=True)
        (wheel,) = project.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        info = {"archive_info": {"hashes": {"sha256": digest}}}
        items.append({"metadata": {"name": name, "version": version}, "download_info": info})
    report = json.dumps({"install": items})
    subprocess.run([sys.executable, ".ci/lock.py", "write"], input=report, text=True, cwd=project, check=True)


def make_install(project: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project), "PIP_CONFIG_FILE": os.devnull}
    command = ["make", "install", f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def installed(project: Path) -> set[str]:
    (site,) = project.glob(".venv/lib/*/site-packages")
    return {path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info")} - {"pip", "setuptools"}


@pytest.mark.slow
def test_make_install_compares_the_hashes(project: Path) -> None:
    done = make_install(project)
    assert done.returncode == 0, done.stderr
    assert {"part-1.0", "small-1.0", "torch-2.13.0+cpu"} <= installed(project)
    assert "nvidia_cublas-13.1" not in installed(project)


@pytest.mark.slow
def test_make_install_takes_the_build_for_gpus_where_there_is_no_other(project: Path) -> None:
    next(project.glob("torch-*cpu*.whl")).unlink()
    done = make_install(project)
    assert done.returncode == 0, done.stderr
    assert {"part-1.0", "torch-2.13.0", "nvidia_cublas-13.1"} <= installed(project)


@pytest.mark.slow
def test_make_install_refuses_a_package_with_another_hash(project: Path) -> None:
    with zipfile.ZipFile(next(project.glob("part-*.whl")), "a") as wheel:
        wheel.writestr("part.py", "print('other code')")
    done = make_install(project)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (project / ".venv/.installed").exists()


@pytest.mark.slow
def test_make_install_says_so_where_the_lock_does_not_fit(project: Path) -> None:
    lock = project / "requirements.lock"
    lock.write_text(lock.read_text().replace(f"{sys.version_info.major}.{sys.version_info.minor},", "3.1,"))
    assert "its hashes are not compared" in make_install(project).stdout
