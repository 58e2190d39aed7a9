"""Which nodes are those of this project, and which parameters they read: users put nodes of their own beside them."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from transformer_foundry.config.parameters import SECTIONS

if TYPE_CHECKING:
    from kedro.pipeline.node import Node

__all__ = ["entry_of", "own_function", "registered_sections", "sections_of"]

_PIPELINES = ("validation", "data_engineering", "training", "tuning", "comparison", "deployment")
_MODULES = frozenset(f"transformer_foundry.pipelines.{name}.nodes" for name in _PIPELINES)
_PREFIX = "params:"


def own_function(node: Node) -> FunctionType | None:
    """Return the function of this project that a node calls; None for a node of the user."""
    function: Any = node.func
    while isinstance(function, functools.partial):
        function = function.func
    return function if getattr(function, "__module__", None) in _MODULES else None


def entry_of(node: Node, parameter: str) -> str | None:
    """Return the entry that a node of this project gives to a parameter of its function: its name may be any."""
    return _arguments_of(node).get(parameter)


def sections_of(node: Node) -> dict[str, str]:
    """Return the names under which a node of this project reads sections of the parameters, by section.

    Example:
        ``{"model": "model", "training": "second.training"}`` in the namespace ``second``, which shares ``model``;
        ``{"training": "my_training"}`` after ``pipeline(..., parameters={"params:training": "params:my_training"})``.
    """
    given = _arguments_of(node)
    return {name: given[name].removeprefix(_PREFIX) for name in SECTIONS if given.get(name, "").startswith(_PREFIX)}


def registered_sections() -> dict[str, str]:
    """Return the section that each name stands for which nodes of the registered pipelines read instead of it.

    Example:
        ``{"second.training": "training"}``
    """
    from kedro.framework.project import pipelines

    nodes = {node for pipeline in pipelines.values() for node in pipeline.nodes}
    read = {name: section for node in nodes for section, name in sections_of(node).items()}
    return {name: section for name, section in sorted(read.items()) if name != section}


def _arguments_of(node: Node) -> dict[str, str]:
    if own_function(node) is None:
        return {}
    given = node._inputs
    signature = inspect.signature(node.func)
    bound = signature.bind(**given) if isinstance(given, dict) else signature.bind(*node.inputs)
    return bound.arguments
