"""A Kedro user's habits in IPython: the extension, its magics, catalog and session."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT

pytestmark = pytest.mark.slow

SHELL = """
import sys
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(simple_prompt=True, colors="NoColor")
for cell in sys.argv[1:]:
    print("[[", cell, flush=True)
    shell.run_cell(cell)
    if loaded := getattr(shell, "rl_next_input", None):  # the cell that %load_node has written
        shell.rl_next_input = None
        shell.run_cell(loaded)
"""


def run_cells(*cells: str) -> list[str]:
    """Return what each cell printed, in a new IPython that runs in the project."""
    done = subprocess.run([sys.executable, "-c", SHELL, *cells], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [part.partition("\n")[2].strip() for part in done.stdout.split("[[ ")[1:]]


def test_the_extension_brings_catalog_session_and_magics(tmp_path: Path) -> None:
    _, entries, _, steps, bad_env, bad_name, still, _, _, status, again = run_cells(
        "%load_ext kedro",
        "print('training_run' in catalog.keys(), type(session).__name__, sorted(pipelines)[-1])",
        f"%reload_kedro --params=preset=standard,data_dir={tmp_path}",
        "print(context.params['training'].max_steps)",
        "%reload_kedro --env=nosuch",
        "%reload_kedro --params=trainig.max_steps=3",
        "print('still here')",
        f"%reload_kedro --params=data_dir={tmp_path}",
        "done = session.run(namespaces=['validation'])",
        "print(catalog.load('validation_report')['status'])",
        "%load_node judge_model",
    )
    assert entries == "True KedroSession validation"
    assert steps == "4000"
    assert bad_env.splitlines()[0].startswith("error: There is no environment 'nosuch'")
    assert "Did you mean 'training'?" in bad_name
    assert max(len(text.splitlines()) for text in (bad_env, bad_name)) == 3
    assert still == "still here"
    assert status == "pass"
    assert "Traceback" not in again


def test_every_entry_of_the_catalog_can_be_asked_for(tmp_path: Path) -> None:
    (*_, missing) = run_cells(
        "%load_ext kedro",
        f"%reload_kedro --params=data_dir={tmp_path}",
        "print([name for name in catalog.keys() if catalog.get(name) is None])",
    )
    assert missing == "[]"


def test_the_cells_of_the_page_run(tmp_path: Path) -> None:
    page = (PROJECT / "docs/howto/kedro.md").read_text()
    load, *cells = re.search(r'```python title="ipython"\n(.*?)```', page, re.S)[1].splitlines()  # type: ignore[index]
    here = f"%reload_kedro --params=data_dir={tmp_path}"
    made = "session.run(namespaces=['validation', 'data_engineering'])"
    small = "--params=preset=standard"
    there = [cell.replace(small, f"{small},data_dir={tmp_path}") for cell in cells]
    shown = run_cells(load, here, made, here, *there)
    assert len(shown) == len(cells) + 4
    assert not [text for text in shown if "Error" in text or "error:" in text]
