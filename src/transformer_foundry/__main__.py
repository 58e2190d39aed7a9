"""Entry point of the installed package: ``transformer-foundry COMMAND``, or ``python -m transformer_foundry COMMAND``.

Where the working directory has no ``conf/logging.yml``, the package brings it. Kedro reads it when it is imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if not Path("conf", "logging.yml").is_file():
    os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(Path(__file__).parent / "console" / "logging.yml"))

import click
from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project

from transformer_foundry.cli import cli, readable_errors
from transformer_foundry.console.program import PACKAGED, set_program, with_program

__all__ = ["main"]


@readable_errors
def main(*args: Any, **kwargs: Any) -> Any:
    """Run a command of this project; ``conf/`` is read from the working directory, or from ``--conf-source``.

    Options without a command are those of ``run``, as in every package that Kedro makes.
    """
    package_name = Path(__file__).parent.name
    configure_project(package_name)
    set_program(PACKAGED)
    arguments = list(args[0]) if args else kwargs.get("args") or sys.argv[1:]
    is_command = arguments and (arguments[0] in cli.commands or arguments[0] in ("-h", "--help"))
    _rename_in_help(cli)
    command = cli if is_command else find_run_command(package_name)
    kwargs.setdefault("obj", SimpleNamespace(package_name=package_name))  # commands of Kedro read it
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return command(*args, **kwargs)


def _rename_in_help(command: click.Command) -> None:
    """Let the help of a command, and of those in a group, name the commands that exist here."""
    command.help, command.epilog = with_program(command.help or ""), with_program(command.epilog or "")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _rename_in_help(inner)


if __name__ == "__main__":
    main()
