"""The ``kedro run`` command that is equivalent to a run."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.console.params_text import params_text

__all__ = ["run_command", "with_values"]


def run_command(pipelines: Sequence[str], env: str | None, parameters: Mapping[str, Any], conf_source: str = "") -> str:
    """Return the ``kedro run`` command with these pipelines, environment and parameters.

    Args:
        pipelines: Names; none means the default pipelines.
        env: The environment of the configuration; None means conf/local.
        parameters: By section, as ``runtime_params`` holds them.
        conf_source: Where the configuration is; empty means ``conf/`` of the project.

    Example:
        >>> run_command(["training"], None, {"preset": "standard", "training": {"max_steps": 9}})
        'kedro run --pipelines training --params preset=standard,training.max_steps=9'
    """
    parts = ["kedro", "run"]
    if pipelines:
        parts += ["--pipelines", ",".join(pipelines)]
    if conf_source:
        parts += ["--conf-source", conf_source]
    if env:
        parts += ["--env", env]
    if given := params_text(parameters):
        parts += ["--params", given]
    return shlex.join(parts)


def with_values(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters by section with some values replaced, which are given by dotted names.

    Example:
        >>> with_values({"training": {"max_steps": 9}}, {"training.seed": 1})
        {'training': {'max_steps': 9, 'seed': 1}}
    """
    merged = copy.deepcopy(dict(parameters))
    for name, value in values.items():
        section, _, key = name.partition(".")
        merged.setdefault(section, {})[key] = value
    return merged
