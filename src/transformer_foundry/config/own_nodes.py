"""Which nodes are those of this project: users put nodes of their own into the same package."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedro.pipeline.node import Node

__all__ = ["own_function"]

_PIPELINES = ("validation", "data_engineering", "training", "tuning", "comparison", "deployment")
_MODULES = frozenset(f"transformer_foundry.pipelines.{name}.nodes" for name in _PIPELINES)


def own_function(node: Node) -> FunctionType | None:
    """Return the function of this project that a node calls; None for a node of the user."""
    function: Any = node.func
    while isinstance(function, functools.partial):
        function = function.func
    return function if getattr(function, "__module__", None) in _MODULES else None
