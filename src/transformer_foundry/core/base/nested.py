"""Nested mappings by dotted names: flatten one, compare two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["differences", "flatten"]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested mapping under dotted names; an empty mapping leaves nothing.

    Example:
        >>> flatten({"training": {"seed": 1, "max_steps": 9}, "data_dir": "data"})
        {'training.seed': 1, 'training.max_steps': 9, 'data_dir': 'data'}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values in which two nested mappings differ, by dotted names; None stands for an absent one.

    Example:
        >>> differences({"training": {"seed": 1}}, {"training": {"seed": 2, "max_steps": 9}})
        {'training.seed': (1, 2), 'training.max_steps': (None, 9)}
    """
    ours, theirs = flatten(first), flatten(second)
    names = dict.fromkeys([*ours, *theirs])
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}
