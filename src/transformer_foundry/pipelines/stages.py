"""Stages: pipelines whose nodes carry a namespace and a tag, and can be selected by their bare names too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kedro.pipeline import Pipeline, pipeline

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.text import short_list

__all__ = ["StagedPipeline", "bare_name", "stage"]


class StagedPipeline(Pipeline):
    """A pipeline of namespaced nodes that also selects a node by its bare name, where only one node has it.

    Kedro calls the node ``train_model`` of the namespace ``training`` ``training.train_model``. Both names work in
    ``--nodes``, ``--from-nodes`` and ``--to-nodes``, in ``session.run(node_names=...)`` and in ``Pipeline.filter``.

    Example:
        >>> from kedro.pipeline import node
        >>> staged = stage("training", Pipeline([node(len, "text", "length", name="measure")]))
        >>> [item.name for item in staged.filter(node_names=["measure"]).nodes]
        ['training.measure']
    """

    def __add__(self, other: Any) -> StagedPipeline:
        return NotImplemented if not isinstance(other, Pipeline) else StagedPipeline({*self.nodes, *other.nodes})

    # Kedro sums the pipelines of a command, starting with an empty one: Python asks the subclass first.
    def __radd__(self, other: Any) -> StagedPipeline:
        return self if other == 0 else self.__add__(other)

    def only_nodes(self, *node_names: str) -> Pipeline:
        """Return the nodes with these names, bare or with namespace."""
        return super().only_nodes(*self.full_names(node_names))

    def from_nodes(self, *node_names: str) -> Pipeline:
        """Return the nodes with these names, bare or with namespace, and all that depend on them."""
        return super().from_nodes(*self.full_names(node_names))

    def to_nodes(self, *node_names: str) -> Pipeline:
        """Return the nodes with these names, bare or with namespace, and all that they depend on."""
        return super().to_nodes(*self.full_names(node_names))

    def full_names(self, node_names: Iterable[str]) -> list[str]:
        """Return the names with namespaces; a name that no node has stays as it is.

        Raises:
            ParameterError: If several nodes have a bare name, with their full names.
        """
        known: dict[str, list[str]] = {}
        for item in self.nodes:
            known.setdefault(bare_name(item.name), []).append(item.name)
        return [_only_one(name, sorted(known.get(name, [name]))) for name in node_names]


def bare_name(node_name: str) -> str:
    """Return the name of a node without its namespaces.

    Example:
        >>> bare_name("training.train_model")
        'train_model'
    """
    return node_name.rpartition(".")[2]


def _only_one(bare: str, names: list[str]) -> str:
    if bare in names or len(names) == 1:
        return bare if bare in names else names[0]
    raise ParameterError(
        f"{len(names)} nodes are called {bare}: {short_list(names)}.",
        "Expected the name of one node.",
        f"Use its full name, for example {names[0]}; several are separated by commas.",
    )


def stage(name: str, nodes: Pipeline) -> StagedPipeline:
    """Return ``nodes`` in the namespace ``name`` and with that tag; datasets and parameters keep their names."""
    return StagedPipeline(pipeline(nodes, namespace=name, prefix_datasets_with_namespace=False, tags={name}).nodes)
