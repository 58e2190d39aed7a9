"""Commands are shown as a shell in this folder can start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from transformer_foundry.console import program

SHOW = """#!{python}
import sys
from transformer_foundry.console.program import with_program
for _ in range(2):
    text = with_program(sys.argv[1])
print(with_program(text))
"""


def shown(folder: Path, text: str, path: str) -> str:
    """Return what a script ``kedro`` of an environment in ``folder`` makes of ``text``."""
    script = folder / ".venv" / "bin" / "kedro"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(SHOW.format(python=sys.executable))
    script.chmod(0o755)
    command = ["kedro" if path else ".venv/bin/kedro", text]
    environment = {"PATH": f"{script.parent}:/usr/bin" if path else "/usr/bin:/bin"}
    executable = str(script) if path else None  # as a shell does, which finds it in PATH
    done = subprocess.run(
        command, executable=executable, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.rstrip("\n")


def test_programs_of_an_environment_that_is_not_active_have_their_folder(tmp_path: Path) -> None:
    text = "Run 'kedro run --params a=1', wandb sync X, or kedro's pages; data/kedro run"
    expected = "Run '.venv/bin/kedro run --params a=1', .venv/bin/wandb sync X, or kedro's pages; data/kedro run"
    assert shown(tmp_path, text, "") == expected
    assert shown(tmp_path, text, "active") == text


def test_a_package_names_its_own_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_program", program.PACKAGED)
    assert program.with_program("kedro runs list") == "transformer-foundry runs list"
