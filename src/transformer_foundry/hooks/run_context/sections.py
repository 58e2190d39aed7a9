"""The parameters of one run: those that its nodes read, under the names that the nodes give them."""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kedro.pipeline.node import Node

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.base.errors import FoundryError, find_foundry_error

__all__ = ["name_parameters", "node_of", "parameters_named", "sections_of_run"]

_PREFIX = "params:"


def sections_of_run(parameters: Mapping[str, Any], nodes: Iterable[Node], known: Iterable[Node]) -> dict[str, Any]:
    """Return the parameters without those of other runs.

    Nodes in the namespace ``left`` read ``params:left.training``: for them, that is the section ``training``.

    Args:
        parameters: The parameters of the project.
        nodes: The nodes of the run.
        known: All nodes; the namespaces of those that read parameters of their own are left out.

    Example:
        >>> train = Node(print, "params:left.training", None, name="train", namespace="left")
        >>> sections_of_run({"data_dir": "data", "left": {"training": {"seed": 1}}}, [train], [train])
        {'data_dir': 'data', 'training': {'seed': 1}}
    """
    namespaces = {path[0] for node in known for path, _ in _own_sections(node)}
    sections = {name: value for name, value in parameters.items() if name not in namespaces}
    for node in nodes:
        for path, section in _own_sections(node):
            value: Any = parameters
            for key in (*path, section):
                value = value.get(key) if isinstance(value, Mapping) else None
            sections[section] = value
    return sections


@contextmanager
def parameters_named(nodes: Iterable[Node]) -> Iterator[None]:
    """Let errors name the parameters as these nodes read them."""
    try:
        yield
    except FoundryError as err:
        name_parameters(err, nodes)
        raise


def name_parameters(error: BaseException, nodes: Iterable[Node]) -> None:
    """Let an error name the parameters as ``nodes`` read them: ``second.training.seed`` in place of ``training.seed``.

    Example:
        >>> train = Node(print, "params:second.training", None, name="train", namespace="second")
        >>> error = FoundryError("training.seed is 1, and data.seed is 1.")
        >>> name_parameters(error, [train])
        >>> print(error)
        second.training.seed is 1, and data.seed is 1.
    """
    found = find_foundry_error(error)
    if found is None:
        return
    own = {section: ".".join((*path, section)) for node in nodes for path, section in _own_sections(node)}
    lines = [found.problem, found.expected, found.remedy]
    for section in own.keys() & SECTIONS.keys():
        keys = "|".join(field.name for field in dataclasses.fields(SECTIONS[section]))
        pattern = rf"(?<![\w./-]){section}(?=\.(?:{keys})\b)"
        lines = [re.sub(pattern, own[section], line) for line in lines]
    FoundryError.__init__(found, *lines)


def node_of(error: BaseException) -> Node | None:
    """Return the node that has raised an error: Kedro's runners, which call it, are in the traceback.

    ``on_node_error`` is not called for a node that yields.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((value for frame in frames for value in frame.f_locals.values() if isinstance(value, Node)), None)


def _own_sections(node: Node) -> Iterable[tuple[tuple[str, ...], str]]:
    """Yield namespace and name of each section that a node reads in its namespace."""
    namespace = tuple((node.namespace or "").split("."))
    for name in node.inputs:
        if name.startswith(_PREFIX):
            *path, section = name.removeprefix(_PREFIX).split(".")
            if path and tuple(path) == namespace[: len(path)]:
                yield tuple(path), section
