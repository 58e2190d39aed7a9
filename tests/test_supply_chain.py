"""The requirements are those that are imported; the locked versions are those that are tested, with hashes."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

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
    lines = [line for line in (PROJECT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_what_foundry_needs_is_locked() -> None:
    needed = {"torch", "kedro", "transformers", "datasets", "huggingface-hub", "wandb", "optuna", "safetensors"}
    assert needed <= set(versions("requirements.lock"))


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

OPTIONAL = {"lingua": "lingua-language-detector", "rouge-score": "rouge-score", "sacrebleu": "sacrebleu"}
"""Imported package -> what installs it, of the extra "text"."""

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
    assert imported() - required == {*BROUGHT_ALONG, *OPTIONAL}
    assert [re.split(r"[<>=]", line)[0] for line in project["optional-dependencies"]["text"]] == list(OPTIONAL.values())
