"""The name of the program in commands that are shown: ``kedro`` in a project, ``transformer-foundry`` in a package.

Programs of an environment that is not active are shown with their folder, as in ``.venv/bin/kedro run``.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["PACKAGED", "set_program", "with_program"]

PACKAGED = "transformer-foundry"
"""The program of the installed package, for a machine without the project."""

_COMMAND = re.compile(
    r"(?<![\w/.-])(?:(?P<ours>kedro) (?=(?:run|plan|doctor|example|checkpoints|hub|models|runs|tracking)\b)"
    r"|wandb (?=sync\b))"
)

_program = "kedro"


def set_program(name: str) -> None:
    """Show commands as those of the program ``name`` from now on."""
    global _program
    _program = name


def with_program(text: str) -> str:
    """Return ``text`` with the commands of this project, and those of its libraries, as they are started here.

    Example:
        >>> with_program("Next: kedro run --pipelines training")
        'Next: kedro run --pipelines training'
    """
    return _COMMAND.sub(lambda found: f"{_folder()}{_program if found['ours'] else 'wandb'} ", text)


@functools.cache
def _folder() -> str:
    """Return the folder of the script that runs, with a slash; empty if a shell finds it by its name."""
    script = Path(os.path.abspath(sys.argv[0]))
    if script.name != "kedro" or not script.is_file():
        return ""
    found = shutil.which(script.name)
    if found is not None and os.path.abspath(found) == str(script):
        return ""
    here = Path.cwd()
    folder = script.parent.relative_to(here) if script.is_relative_to(here) else script.parent
    return shlex.quote(f"{folder}/")
