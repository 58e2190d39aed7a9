"""A run written as the command that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["run_command"]

_WORDS = {None: "null", True: "true", False: "false"}


def run_command(pipelines: Sequence[str], env: str | None, parameters: Mapping[str, Any]) -> str:
    """Return the ``kedro run`` that takes these pipelines, this preset and these parameters.

    Args:
        pipelines: Names; none is the whole road.
        env: The preset; None is the quick one.
        parameters: By section, as ``runtime_params`` holds them.

    Example:
        >>> run_command(["training"], "standard", {"training": {"max_steps": 9}})
        'kedro run --pipelines training --env standard --params training.max_steps=9'
    """
    parts = ["kedro", "run"]
    if pipelines:
        parts += ["--pipelines", ",".join(pipelines)]
    if env:
        parts += ["--env", env]
    if given := dict(_flat(parameters)):
        parts += ["--params", ",".join(f"{name}={value}" for name, value in given.items())]
    return shlex.join(parts)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield parameters as ``--params`` takes them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _WORDS[value] if value is None or isinstance(value, bool) else str(value)
