"""Generate the reference page of the commands from their click definitions."""

from __future__ import annotations

import click
from markup import escaped

__all__ = ["commands_page"]

INTRODUCTION = """# Commands

The commands that this project adds to Kedro, and the one that it changes. `kedro COMMAND --help` prints the same \
text. From an installed package, run `transformer-foundry` instead of `kedro run`.

This page is generated from the commands.
"""
VALIDATION = """
## python -m transformer_foundry.core.checks { #checks }

Runs only the validation, for an export in a folder, a zip file or a gist. Needs only torch, numpy, pandas and \
matplotlib. See [Validation](../validation.md).
"""


def commands_page() -> str:
    """Return the page: one section per command, with its arguments and options."""
    from transformer_foundry.cli import cli

    parts = [INTRODUCTION]
    for name, command in cli.commands.items():
        parts.append(f"## kedro {name}\n\n{_help(command)}\n")
        if isinstance(command, click.Group):
            parts += [_command(f"kedro {name} {key}", item) for key, item in sorted(command.commands.items())]
        else:
            parts.append(_options(command))
    return "\n".join([*parts, VALIDATION])


def _command(name: str, command: click.Command) -> str:
    arguments = " ".join(_argument(item) for item in command.params if isinstance(item, click.Argument))
    return f"### {name} {escaped(arguments)}\n\n{_help(command)}\n\n{_options(command)}"


def _argument(argument: click.Argument) -> str:
    name = (argument.metavar or argument.name or "").upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _options(command: click.Command) -> str:
    options = [item for item in command.params if isinstance(item, click.Option) and not item.hidden]
    if not options:
        return ""
    rows = [f"| `{', '.join(item.opts)}` | {escaped(' '.join((item.help or '').split()))} |" for item in options]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def _help(command: click.Command) -> str:
    return escaped(" ".join((command.help or "").split()))
