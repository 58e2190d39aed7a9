"""Errors that a user can cause and fix; every other exception is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import printable

__all__ = [
    "CheckpointError",
    "DataError",
    "DeploymentError",
    "FoundryError",
    "ModelError",
    "ParameterError",
    "TrainingError",
    "TuningError",
    "cause_chain",
    "error_message",
    "find_foundry_error",
    "format_error",
    "suggestion",
]


class FoundryError(Exception):
    """An expected error: what is wrong, what was expected, what to do; one line each.

    Args:
        problem: What is wrong, with the value that was found.
        expected: What was expected instead.
        remedy: What to do now: the exact parameter, command or cell.
    """

    def __init__(self, problem: str, expected: str = "", remedy: str = "") -> None:
        self.problem, self.expected, self.remedy = (_one_line(text) for text in (problem, expected, remedy))
        super().__init__(self.problem, self.expected, self.remedy)

    def __str__(self) -> str:
        return "\n".join(line for line in (self.problem, self.expected, self.remedy) if line)

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: a notebook shows the three lines and no traceback either.
        return format_error(self).splitlines()


class ParameterError(FoundryError):
    """A parameter is unknown, has the wrong type or is out of range."""


class ModelError(FoundryError):
    """The exported model cannot be read, built or called."""


class DataError(FoundryError):
    """The data cannot be read or does not fit the model."""


class TrainingError(FoundryError):
    """Training cannot start or continue."""


class CheckpointError(FoundryError):
    """A checkpoint is damaged, missing or belongs to another run."""


class TuningError(FoundryError):
    """The search cannot start or continue."""


class DeploymentError(FoundryError):
    """A package cannot be built, verified or published."""


def format_error(error: FoundryError) -> str:
    """Return ``error`` as a command and a notebook print it: ``error:``, then its lines.

    Example:
        >>> print(format_error(DataError("a.csv is empty.", "Expected some text.", "Choose another file.")))
        error: a.csv is empty.
        Expected some text.
        Choose another file.
    """
    return f"error: {error}"


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``name``, or an empty string.

    Example:
        >>> suggestion("learning_rat", ["learning_rate", "seed"])
        " Did you mean 'learning_rate'?"
    """
    nearest = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


def cause_chain(error: BaseException, *, explicit: bool = False) -> Iterator[BaseException]:
    """Yield ``error`` and the exceptions that it was raised from, the outermost first.

    Args:
        error: The exception that was caught.
        explicit: Whether only ``raise ... from`` is followed; otherwise also exceptions raised while another was
            handled.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if explicit else current.__context__)


def error_message(error: BaseException, longest: int | None = None, *, first_line: bool = False) -> str:
    """Return what an exception says, on one line; its type if it says nothing.

    Secrets are redacted before anything is cut: a half secret is not recognized.

    Args:
        error: The exception.
        longest: Most characters; None keeps all.
        first_line: Whether only the first line is kept.

    Example:
        >>> error_message(ValueError("a long\\nmessage"), 8), error_message(KeyError())
        ('a long m', 'KeyError')
    """
    text = redact(str(error)).strip()
    if first_line:
        text = text.partition("\n")[0]
    return " ".join(text.split())[:longest].rstrip() or type(error).__name__


def find_foundry_error(error: BaseException) -> FoundryError | None:
    """Return the first ``FoundryError`` in the chain of ``error``: Kedro wraps what datasets raise."""
    return next((item for item in cause_chain(error) if isinstance(item, FoundryError)), None)


def _one_line(text: str) -> str:
    # An error appears in terminals, logs, reports and trackers; a value that it quotes may be a secret.
    return printable(" ".join(redact(str(text)).split()))
