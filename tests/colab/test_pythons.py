"""The source holds under Colab's versions of Python, and what needs no package runs there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.colab import PYTHONS
from tests.integration.foundry import PROJECT

SINGLE_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from transformer_foundry.console import colab, command_line, status_line, third_party
from transformer_foundry.notebook import validation_view
from transformer_foundry.core import reports
from transformer_foundry.core.base import errors, secrets
from transformer_foundry.core.system import environment
open(colab.pin_installed(sys.argv[2])).read()
colab.open_session()
print(command_line.run_command(["training"], None, {"training": {"max_steps": 9}}))
"""


def interpreter(version: str) -> str:
    """Return a Python of this version, of the system or of pyenv; skip the test where there is none."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    for path in (shutil.which(f"python{version}"), *map(str, sorted(installed))):
        # pyenv's stand-in for a version that is not chosen exists, and fails.
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", PYTHONS)
def test_every_module_compiles_without_a_warning(version: str, tmp_path: Path) -> None:
    command = [interpreter(version), "-W", "error", "-m", "compileall", "-q", str(PROJECT / "src")]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(list(tmp_path.rglob("*.pyc"))) == len(list((PROJECT / "src").rglob("*.py")))


@pytest.mark.parametrize("version", PYTHONS)
def test_what_needs_no_package_runs(version: str, tmp_path: Path) -> None:
    command = [
        interpreter(version),
        "-I",
        "-B",
        "-W",
        "error",
        "-c",
        SINGLE_PROCESS,
        str(PROJECT / "src"),
        str(tmp_path / "live"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kedro run --pipelines training --params training.max_steps=9" in done.stdout
