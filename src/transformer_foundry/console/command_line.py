"""The ``kedro run`` command that is equivalent to a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.nested import flatten

__all__ = ["run_command"]

_YAML_WORDS = {None: "null", True: "true", False: "false"}


def run_command(pipelines: Sequence[str], env: str | None, parameters: Mapping[str, Any]) -> str:
    """Return the ``kedro run`` command with these pipelines, preset and parameters.

    Args:
        pipelines: Names; none means the default pipelines.
        env: The preset; None means the quick one.
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
    if given := flatten(parameters):
        parts += ["--params", ",".join(f"{name}={_text(value)}" for name, value in given.items())]
    return shlex.join(parts)


def _text(value: Any) -> str:
    return _YAML_WORDS[value] if value is None or isinstance(value, bool) else str(value)
