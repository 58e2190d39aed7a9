"""The parameters of one run: those that its nodes read, under the names that the nodes give them."""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kedro.pipeline.node import Node

from transformer_foundry.config.own_nodes import sections_of
from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.base.errors import FoundryError, find_foundry_error

__all__ = ["name_parameters", "names_of_run", "node_of", "parameters_named", "sections_of_run"]

_PREFIX = "params:"


def names_of_run(nodes: Iterable[Node]) -> dict[str, str]:
    """Return the names under which nodes of a run read parameters, by the names that they have for their functions.

    Nodes in the namespace ``left`` read ``params:left.training``: for them, that is the section ``training``. So is
    ``params:my_training`` for a node that gives it to the parameter ``training`` of its function.

    Args:
        nodes: The nodes of the run; of two that read other sections, the later one decides.

    Example:
        >>> train = Node(print, "params:left.training", None, name="train", namespace="left")
        >>> names_of_run([train])
        {'training': 'left.training'}
    """
    return {name: path for node in nodes for name, path in _names_of(node).items()}


def sections_of_run(parameters: Mapping[str, Any], names: Mapping[str, str], known: Iterable[Node]) -> dict[str, Any]:
    """Return the parameters without those of other runs.

    Args:
        parameters: The parameters of the project.
        names: What ``names_of_run`` returns.
        known: All nodes; what they read under names of their own is left out.

    Example:
        >>> sections_of_run({"data_dir": "data", "left": {"training": {"seed": 1}}}, {"training": "left.training"}, [])
        {'data_dir': 'data', 'left': {'training': {'seed': 1}}, 'training': {'seed': 1}}
    """
    own = {path.partition(".")[0] for node in known for name, path in _names_of(node).items() if name != path}
    sections = {name: value for name, value in parameters.items() if name not in own - SECTIONS.keys()}
    for name, path in names.items():
        value: Any = parameters
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None or name != path:
            sections[name] = value
    return sections


@contextmanager
def parameters_named(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors name the parameters as the nodes of a run read them: ``names_of_run``."""
    try:
        yield
    except FoundryError as err:
        name_parameters(err, names)
        raise


def name_parameters(error: BaseException, names: Mapping[str, str]) -> None:
    """Let an error name the parameters as nodes read them: ``second.training.seed`` in place of ``training.seed``.

    Example:
        >>> error = FoundryError("training.seed is 1, and data.seed is 1.")
        >>> name_parameters(error, {"training": "second.training"})
        >>> print(error)
        second.training.seed is 1, and data.seed is 1.
    """
    found = find_foundry_error(error)
    if found is None:
        return
    lines = [found.problem, found.expected, found.remedy]
    for section in names.keys() & SECTIONS.keys():
        keys = "|".join(field.name for field in dataclasses.fields(SECTIONS[section]))
        pattern = rf"(?<![\w./-]){section}(?=\.(?:{keys})\b)"
        lines = [re.sub(pattern, names[section], line) for line in lines]
    FoundryError.__init__(found, *lines)


def node_of(error: BaseException) -> Node | None:
    """Return the node that has raised an error: Kedro's runners, which call it, are in the traceback.

    ``on_node_error`` is not called for a node that yields.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((value for frame in frames for value in frame.f_locals.values() if isinstance(value, Node)), None)


def _names_of(node: Node) -> dict[str, str]:
    namespace = tuple((node.namespace or "").split("."))
    found = {}
    for entry in node.inputs:
        *path, name = entry.removeprefix(_PREFIX).split(".")
        if entry.startswith(_PREFIX) and path and tuple(path) == namespace[: len(path)]:
            found[name] = ".".join((*path, name))
    return found | sections_of(node)
