"""Installing the project on Colab leaves what Colab has as it is."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.colab import PYTHONS, colab_packages
from tests.integration.foundry import PROJECT

ADDED = {"kedro", "kedro-datasets", "kedro-viz", "onnx", "onnxruntime", "onnxscript", "optuna"}
"""What the training notebook installs besides the project."""

LEFT_TO_COLAB = {"numpy", "ipython", "notebook", "protobuf", "rich"}
"""Loaded before the first cell, or pinned by Colab's own tools: a floor for them could replace them."""


def requirements() -> list[Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"]]


def on_colab(python: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in colab_packages(python).items()}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_version_on_colab_satisfies_every_requirement_that_colab_has(python: str) -> None:
    present = on_colab(python)
    refused = [
        f"{item} against {present[canonicalize_name(item.name)]}"
        for item in requirements()
        if canonicalize_name(item.name) in present
        and not item.specifier.contains(present[canonicalize_name(item.name)], prereleases=True)
    ]
    assert not refused


@pytest.mark.parametrize("python", PYTHONS)
def test_only_the_listed_packages_are_added_to_colab(python: str) -> None:
    names = {canonicalize_name(item.name) for item in requirements()}
    assert names - set(on_colab(python)) == ADDED


def test_nothing_is_required_that_colab_has_loaded_or_pinned() -> None:
    assert not {canonicalize_name(item.name) for item in requirements()} & LEFT_TO_COLAB


def test_no_requirement_pulls_in_an_extra_or_a_fixed_version() -> None:
    assert not [str(item) for item in requirements() if item.extras or "==" in str(item.specifier)]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_project_takes_the_python_of_colab(python: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python)
