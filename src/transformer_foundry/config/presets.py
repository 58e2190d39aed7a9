"""Presets: named sets of parameters between ``conf/base`` and ``conf/local``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.base.text import short_list

__all__ = [
    "PRESETS",
    "PRESET_FOLDER",
    "QUICK",
    "SUFFIXES",
    "preset_files",
    "preset_of_environment",
    "require_preset",
    "values_of",
]

QUICK = "quick"
"""The default preset: the values of ``conf/base`` as they are."""
PRESETS = (QUICK, "standard", "thorough")
PRESET_FOLDER = "presets"
SUFFIXES = (".yml", ".yaml", ".json")
"""Files that Kedro reads as configuration."""


def preset_files(name: str) -> list[str]:
    """Return the paths that a preset may have below an environment of ``conf/``."""
    return [f"{PRESET_FOLDER}/{name}{suffix}" for suffix in SUFFIXES]


def require_preset(name: object, known: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """Return ``name`` if it is the name of a preset.

    Args:
        name: The value of the parameter ``preset``.
        known: The presets that can be read, without ``quick``.
        elsewhere: Presets of environments that this command does not read, each with its environment.

    Raises:
        ParameterError: With the names of the presets.
    """
    names = [QUICK, *(preset for preset in PRESETS if preset in known), *sorted({*known} - {*PRESETS})]
    if isinstance(name, str) and name in names:
        return name
    env = elsewhere.get(str(name), "")
    where = f" It is one of conf/{env}, which this command does not read." if env else suggestion(str(name), names)
    raise ParameterError(
        f"preset is {name!r}.{where}",
        f"Expected one of: {short_list(names)}.",
        f"Use --env {env}, or move its file to conf/base/{PRESET_FOLDER}."
        if env
        else f"Set --params preset={names[-1]}, or write a preset of your own: conf/base/{PRESET_FOLDER}/NAME.yml.",
    )


def preset_of_environment(env: str | None, environments: Collection[str]) -> str | None:
    """Return the preset that ``--env`` means: they were environments once. None for an environment.

    A folder ``conf/standard`` of the user is an environment, as everywhere in Kedro.
    """
    return env if env in PRESETS and env not in environments else None


def values_of(parameters: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that ``parameters`` has for the keys of ``names``, section by section.

    A key that ``parameters`` lacks keeps its value in ``names``: Kedro merges them only into files that exist.

    Example:
        >>> values_of({"training": {"seed": 1, "max_steps": 9}}, {"training": {"seed": "${globals:s}"}})
        {'training': {'seed': 1}}
    """
    return {
        key: values_of(parameters[key], value)
        if isinstance(value, Mapping) and isinstance(parameters.get(key), Mapping)
        else parameters.get(key, value)
        for key, value in names.items()
    }
