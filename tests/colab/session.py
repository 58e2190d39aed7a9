"""Run a notebook as Colab does: a new kernel, the form filled in, a chosen environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
from nbclient import NotebookClient

from tests.colab import FOLDER
from tests.integration.foundry import PROJECT

NOTEBOOKS = PROJECT / "notebooks"
BLOCKED, STUB = FOLDER / "blocked", FOLDER / "stub"


def read(name: str, **form: Any) -> nbformat.NotebookNode:
    """Return the notebook with values of its form replaced; each must be there exactly once."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    for field, value in form.items():
        pattern = re.compile(rf"^{field} = .*?(?=  # @param)", re.MULTILINE)
        assert sum(len(pattern.findall(cell.source)) for cell in notebook.cells) == 1, field
        for cell in notebook.cells:
            cell.source = pattern.sub(lambda _, field=field, value=value: f"{field} = {value!r}", cell.source)
    return notebook


def execute(
    notebook: nbformat.NotebookNode, *, where: Path = NOTEBOOKS, path: Path | str | None = None, **env: str
) -> str:
    """Run the notebook in the folder ``where`` and return everything that it printed.

    Args:
        notebook: Its outputs are in it afterwards.
        where: Working directory of the kernel.
        path: What comes first on PYTHONPATH, one folder or several.
        **env: Further environment variables.
    """
    paths = {"PYTHONPATH": str(path)} if path else {}
    with mock.patch.dict(os.environ, paths | env):
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(where)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text", "") for output in outputs)


def shown(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """Return everything of a MIME type that the notebook displays."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]
