"""Make commands print expected errors, wrong options included, in at most three lines."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from transformer_foundry.console.expected_errors import REFUSED_BY_KEDRO, expected_error
from transformer_foundry.console.program import with_program
from transformer_foundry.console.sigterm import is_hung_up, is_terminated, stop_at_termination
from transformer_foundry.console.status_line import LINE
from transformer_foundry.core.base.errors import FoundryError, ParameterError, format_error, suggestion
from transformer_foundry.core.base.text import short_list

__all__ = ["make_readable", "readable_errors", "with_place"]

EXIT_CODE_EXPECTED_ERROR = 2
EXIT_CODE_HUNG_UP = 129
EXIT_CODE_INTERRUPTED = 130
EXIT_CODE_TERMINATED = 143


def readable_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command`` with expected errors printed in at most three lines, with exit code 2.

    ``FOUNDRY_DEBUG=1`` in the environment keeps the traceback.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with stop_at_termination():
                return command(*args, **kwargs)
        except KeyboardInterrupt:
            LINE.end()
            event = "Terminated" if is_terminated() else "Stopped"
            with contextlib.suppress(OSError):  # the terminal may be closed
                click.echo(
                    f"{event}. Run the same command again: it continues from what is done and saved.",
                    err=True,
                )
            sys.exit(
                EXIT_CODE_TERMINATED
                if is_terminated()
                else EXIT_CODE_HUNG_UP
                if is_hung_up()
                else EXIT_CODE_INTERRUPTED
            )
        except Exception as error:  # An unexpected error keeps its traceback.
            expected = expected_error(error)
            if expected is None or os.environ.get("FOUNDRY_DEBUG"):
                raise
            _exit(with_place(expected))

    return wrapper


def with_place(error: FoundryError) -> FoundryError:
    """Return an error of Kedro about an entry of the catalog with the file and the line of the entry."""
    from transformer_foundry.config.loader import entry_of_type, place_of_entry

    text = error.problem.removeprefix(REFUSED_BY_KEDRO)
    if text == error.problem:
        return error
    named = re.findall(r"[Dd]ataset '([^']+)'", text)
    places = {name: place_of_entry(name) for name in (*named, *map(entry_of_type, named)) if name}
    name = next((name for name, place in places.items() if place), None)
    if name is None:
        return error
    reason = re.sub(r"^An exception occurred when parsing config for dataset '[^']+': ", "", text).split(" Hint: ")[0]
    return ParameterError(
        f"The entry {name} of the catalog ({places[name]}) cannot be used: {reason}{_nearest_type(reason)}",
        "Expected a type that is installed, with the arguments of its constructor.",
        f"Correct it in {places[name]}; FOUNDRY_DEBUG=1 shows where this comes from.",
    )


def _nearest_type(reason: str) -> str:
    missing = re.search(r"Dataset '(\w+)' not found in '([\w.]+)'", reason)
    module = None if missing is None else sys.modules.get(missing[2])
    return "" if missing is None or module is None else suggestion(missing[1], dir(module))


def make_readable(command: click.Command) -> None:
    """Let a command, and the commands of a group, print all their errors in at most three lines."""
    if command.callback is not None and not isinstance(command, click.Group):
        # A click command prints wrong options itself, in another form.
        command.callback = readable_errors(command.callback)
    for name in ("make_context", "resolve_command"):
        if hasattr(command, name):
            setattr(command, name, _with_readable_usage(getattr(command, name)))
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        make_readable(inner)


def _with_readable_usage(parse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return parse(*args, **kwargs)
        except FoundryError as error:
            _exit(error)
        except click.ClickException as error:
            _exit(_usage_error(error))

    return wrapper


def _usage_error(error: click.ClickException) -> ParameterError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "kedro run"
    group = context.command if context else None
    if isinstance(error, click.NoSuchOption):
        return ParameterError(
            f"{path} has no option {error.option_name}.{suggestion(error.option_name, _options(context))}",
            f"Its options are {short_list(_options(context), limit=12)}.",
            f"'{path} --help' describes them.",
        )
    if isinstance(group, click.Group) and "No such command" in error.format_message():
        known = sorted(group.commands)
        name = error.format_message().split("'")[1]
        return ParameterError(
            f"{path} has no command {name!r}.{suggestion(name, known)}",
            f"Its commands are {short_list(known, limit=12)}.",
            f"'{path} --help' describes them.",
        )
    return ParameterError(f"{path}: {error.format_message()}", f"'{path} --help' describes its options.")


def _options(context: click.Context | None) -> list[str]:
    options = context.command.params if context else []
    return [name for item in options if isinstance(item, click.Option) for name in item.opts if name.startswith("--")]


def _exit(error: FoundryError) -> NoReturn:
    click.echo(with_program(format_error(error)), err=True)
    sys.exit(EXIT_CODE_EXPECTED_ERROR)
