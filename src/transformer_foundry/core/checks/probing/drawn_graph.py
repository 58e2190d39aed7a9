"""Drawn graph of a configuration, and the block of the editor that a module, a variable or a line belongs to."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Graph", "Node", "read_graph"]


@dataclass(frozen=True)
class Node:
    """A drawn block: its id (``mhsa_0``), its type (``mhsa``) and its settings."""

    id: str
    type: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The drawn blocks and the arrows between them."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.nodes)

    def node_of(self, name: str | None) -> Node | None:
        """Return the block whose id ``name`` starts with, as generated names do; the longest id wins.

        Example:
            >>> Graph((Node("mhsa_0", "mhsa"),)).node_of("mhsa_0.out_proj").id
            'mhsa_0'
        """
        head = (name or "").partition(".")[0]
        matches = [node for node in self.nodes if head == node.id or head.startswith(f"{node.id}_")]
        return max(matches, key=lambda node: len(node.id), default=None)

    def node_of_statement(self, statement: ast.stmt | None) -> Node | None:
        """Return the block of a name in the statement: attributes first, then variables it sets, then others."""
        if statement is None or isinstance(statement, ast.FunctionDef | ast.ClassDef):
            return None
        called: list[str] = []
        named: list[str] = []
        stored: list[str] = []
        for item in ast.walk(statement):
            if isinstance(item, ast.Attribute):
                called.append(item.attr)
            elif isinstance(item, ast.Name):
                (stored if isinstance(item.ctx, ast.Store) else named).append(item.id)
        for name in called + stored + named:
            node = self.node_of(name)
            if node is not None:
                return node
        return None


def read_graph(config: Mapping[str, Any]) -> Graph:
    """Return the graph of ``nodes`` and ``edges`` of a configuration; an empty graph when it has none.

    An edge is a pair of ids, or a mapping with ``source`` and ``target`` (or ``from`` and ``to``).
    """
    raw_nodes = config.get("nodes")
    if not isinstance(raw_nodes, Sequence) or isinstance(raw_nodes, str):
        return Graph()
    nodes = tuple(
        Node(str(raw["id"]), str(raw.get("type", "")), _params(raw))
        for raw in raw_nodes
        if isinstance(raw, Mapping) and raw.get("id")
    )
    raw_edges = config.get("edges") or config.get("connections") or ()
    edges = tuple(edge for edge in map(_read_edge, raw_edges) if edge is not None)
    return Graph(nodes, edges)


def _params(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    params = raw.get("params") or raw.get("data") or {}
    return params if isinstance(params, Mapping) else {}


def _read_edge(raw: Any) -> tuple[str, str] | None:
    if isinstance(raw, Mapping):
        source, target = raw.get("source", raw.get("from")), raw.get("target", raw.get("to"))
    elif isinstance(raw, Sequence) and not isinstance(raw, str) and len(raw) >= 2:
        source, target = raw[0], raw[1]
    else:
        return None
    return (str(source), str(target)) if source is not None and target is not None else None
