"""Both notebooks run from top to bottom, and stay short."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.integration.foundry import PROJECT

NOTEBOOKS = PROJECT / "notebooks"


def read(name: str, **form: Any) -> nbformat.NotebookNode:
    """Return the notebook with the values of its form replaced."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    for field, value in form.items():
        pattern = re.compile(rf"^{field} = .*?(?=  # @param)", re.MULTILINE)
        for cell in notebook.cells:
            cell.source = pattern.sub(lambda _, field=field, value=value: f"{field} = {value!r}", cell.source)
    return notebook


def execute(notebook: nbformat.NotebookNode) -> str:
    """Run the notebook where it lies and return everything that it printed."""
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_the_validation_notebook_gives_a_verdict() -> None:
    assert "PASS" in execute(read("template.ipynb", SOURCE="data/01_raw/exports/t5"))


@pytest.mark.slow
def test_the_training_notebook_goes_from_the_model_to_the_package(tmp_path: Path) -> None:
    printed = execute(read("training.ipynb", STEPS=6, DATA_DIR=str(tmp_path / "data")))
    assert "STARTS at step 0 of 6" in printed
    manifest = json.loads((tmp_path / "data/07_model_output/gpt/manifest.json").read_text())
    assert {item["status"] for item in manifest["formats"]} == {"verified"}


@pytest.mark.parametrize("name", ["template.ipynb", "training.ipynb"])
def test_a_notebook_is_short_and_committed_without_outputs(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 12
    assert all(len(cell.source.splitlines()) <= 15 for cell in code)
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE) for cell in code)
