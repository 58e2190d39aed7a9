"""The name of the program in commands that are shown: ``kedro`` in a project, ``transformer-foundry`` in a package."""

from __future__ import annotations

import re

__all__ = ["PACKAGED", "set_program", "with_program"]

PACKAGED = "transformer-foundry"
"""The program of the installed package, for a machine without the project."""

_COMMAND = re.compile(r"\bkedro (?=(?:run|plan|doctor|example|checkpoints|hub|models|runs|tracking)\b)")

_program = "kedro"


def set_program(name: str) -> None:
    """Show commands as those of the program ``name`` from now on."""
    global _program
    _program = name


def with_program(text: str) -> str:
    """Return ``text`` with the commands of this project as those of the program that runs.

    Example:
        >>> with_program("Next: kedro run --pipelines training")
        'Next: kedro run --pipelines training'
    """
    return text if _program == "kedro" else _COMMAND.sub(f"{_program} ", text)
