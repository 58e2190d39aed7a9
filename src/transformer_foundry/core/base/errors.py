"""The errors that a user can cause and mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from transformer_foundry.core.base.secrets import redact

__all__ = [
    "CheckpointError",
    "DataError",
    "DeploymentError",
    "FoundryError",
    "ModelError",
    "ParameterError",
    "TrainingError",
    "TuningError",
    "find_foundry_error",
    "printable",
    "suggestion",
]

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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
        # IPython's hook: in a notebook too an expected error is told in three lines.
        return str(self).splitlines()


class ParameterError(FoundryError):
    """A parameter is unknown, has the wrong type or lies outside its range."""


class ModelError(FoundryError):
    """The exported model cannot be read, built or called."""


class DataError(FoundryError):
    """The data cannot be read or does not fit the model."""


class TrainingError(FoundryError):
    """Training cannot start or go on."""


class CheckpointError(FoundryError):
    """A checkpoint is damaged, foreign or missing."""


class TuningError(FoundryError):
    """The search cannot start or go on."""


class DeploymentError(FoundryError):
    """A package cannot be made, verified or published."""


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``name``, or an empty string.

    Example:
        >>> suggestion("learning_rat", ["learning_rate", "seed"])
        " Did you mean 'learning_rate'?"
    """
    nearest = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


def find_foundry_error(error: BaseException) -> FoundryError | None:
    """Return the ``FoundryError`` in the chain of causes of ``error``: Kedro wraps what datasets raise."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, FoundryError):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def printable(text: str) -> str:
    """Return ``text`` with control characters and halves of characters spelt out: a terminal would obey them.

    Example:
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _one_line(text: str) -> str:
    # An error ends up in terminals, logs, reports and trackers; a value that it quotes may be a secret.
    return printable(redact(" ".join(str(text).split())))
