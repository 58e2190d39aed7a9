"""Which nodes belong to which training run: found by what they read and write, not by names."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kedro.pipeline.node import Node

from transformer_foundry.config.own_nodes import entry_of, own_function

__all__ = [
    "EARLIER_ENTRIES",
    "EARLIER_RESULTS",
    "RunNodes",
    "earlier_entries",
    "earlier_entry",
    "function_of",
    "nodes_of_runs",
    "types_of_outputs",
]

EARLIER_RESULTS = "earlier_results"
"""Parameter of a node of this project that takes what its outputs hold from an earlier command."""

EARLIER_ENTRIES: Mapping[str, str] = {"previous_splits": "token_splits"}
"""Parameter that takes what another entry of the same namespace holds from an earlier command -> its bare name."""


@dataclass(frozen=True)
class RunNodes:
    """The nodes of one training run.

    Attributes:
        trainers: They write the run.
        after: They read it, directly or through others: evaluation, figures, package.
        before: What training reads is made by them, or they read what those make: checks, data, search.
    """

    trainers: frozenset[Node]
    after: frozenset[Node]
    before: frozenset[Node]

    @property
    def all(self) -> frozenset[Node]:
        """All of them."""
        return self.trainers | self.after | self.before


def nodes_of_runs(nodes: Iterable[Node], runs: Mapping[str, str]) -> dict[str, RunNodes]:
    """Return the nodes of each run.

    A node after one run and before another belongs to the first: the gate that evaluates one model before the next one
    is trained. What comes before several runs belongs to all of them.

    Args:
        nodes: All nodes that are known.
        runs: Entries of the catalog that are runs, each with the key of its run; two entries may share one.
    """
    flow = _Flow(nodes, runs)
    entries: dict[str, set[str]] = defaultdict(set)
    for entry, run in runs.items():
        entries[run].add(entry)
    trainers = {run: flow.writers(names) for run, names in entries.items()}
    every_trainer = frozenset[Node]().union(*trainers.values())
    after = {
        run: flow.descendants(flow.readers(names) - every_trainer, stop_at=every_trainer)
        for run, names in entries.items()
    }
    taken = every_trainer.union(*after.values())
    found = {}
    for run in entries:
        own = trainers[run] | after[run]
        makers = flow.ancestors(own, stop_at=taken - own) - taken
        siblings = flow.descendants(makers, stop_at=taken) - taken
        found[run] = RunNodes(trainers[run], after[run], makers | siblings)
    return found


def function_of(node: Node) -> str | None:
    """Return the name of the function of this project that a node calls: projects name their nodes as they like."""
    function = own_function(node)
    return None if function is None else function.__name__


def types_of_outputs(node: Node) -> dict[str, str]:
    """Return the annotated type of each output of a node of this project; empty for another node.

    Example:
        ``{"evaluation": "dict[str, Any]", "validation_figure": "MatplotlibFigure"}``
    """
    function = own_function(node)
    if function is None:
        return {}
    try:
        hint = ast.parse(str(inspect.signature(function).return_annotation), mode="eval").body
    except SyntaxError:  # the user has changed it: <class 'dict'>
        return {}
    parts = [hint]
    if isinstance(hint, ast.Subscript) and ast.unparse(hint.value) == "tuple" and isinstance(hint.slice, ast.Tuple):
        parts = hint.slice.elts
    return dict(zip(node.outputs, map(ast.unparse, parts), strict=False))


def earlier_entries(node: Node) -> set[str]:
    """Return the entries of which a node gets what they hold from an earlier command."""
    own = set(node.outputs) if entry_of(node, EARLIER_RESULTS) is not None else set()
    given = {parameter: entry_of(node, parameter) for parameter in EARLIER_ENTRIES}
    return own | {earlier_entry(entry, parameter) for parameter, entry in given.items() if entry is not None}


def earlier_entry(entry: str, parameter: str) -> str:
    """Return the entry whose earlier content ``entry`` stands for: that of the same namespace.

    Example:
        >>> earlier_entry("mine.previous_splits", "previous_splits")
        'mine.token_splits'
    """
    return entry[: entry.rfind(".") + 1] + EARLIER_ENTRIES[parameter]


class _Flow:
    """The graph of nodes without the edges through runs."""

    def __init__(self, nodes: Iterable[Node], runs: Mapping[str, str]) -> None:
        self._runs = runs
        self._readers: dict[str, set[Node]] = defaultdict(set)
        self._writers: dict[str, set[Node]] = defaultdict(set)
        for node in nodes:
            for name in node.inputs:
                self._readers[_entry(name)].add(node)
            for name in node.outputs:
                self._writers[_entry(name)].add(node)

    def readers(self, names: Iterable[str]) -> frozenset[Node]:
        return frozenset(node for name in names for node in self._readers[_entry(name)])

    def writers(self, names: Iterable[str]) -> frozenset[Node]:
        return frozenset(node for name in names for node in self._writers[_entry(name)])

    def descendants(self, nodes: Iterable[Node], stop_at: frozenset[Node] = frozenset()) -> frozenset[Node]:
        """Return ``nodes`` and all that read what they make, but nothing beyond ``stop_at``."""
        return _reached(nodes, lambda node: self.readers(self._without_runs(node.outputs)) - stop_at)

    def ancestors(self, nodes: Iterable[Node], stop_at: frozenset[Node] = frozenset()) -> frozenset[Node]:
        """Return ``nodes`` and all that make what they read, but nothing beyond ``stop_at``."""
        return _reached(nodes, lambda node: self.writers(self._without_runs(node.inputs)) - stop_at)

    def _without_runs(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self._runs]


def _reached(nodes: Iterable[Node], neighbors: Callable[[Node], Iterable[Node]]) -> frozenset[Node]:
    seen: set[Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += neighbors(node)
    return frozenset(seen)


def _entry(name: str) -> str:
    """Return the entry of a transcoded name: ``table@pandas`` and ``table@spark`` are one."""
    return name.partition("@")[0]
