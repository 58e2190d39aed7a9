"""What nodes get from an earlier command: what their outputs hold before they run, wherever the catalog keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from kedro.io import CatalogProtocol
from kedro.pipeline.node import Node

from transformer_foundry.config.own_nodes import entry_of
from transformer_foundry.hooks.run_context.flow import EARLIER_ENTRIES, EARLIER_RESULTS, earlier_entry

__all__ = ["EarlierOutputs", "supplied_entries", "supply_earlier"]


class EarlierOutputs(Sequence[Any]):
    """What the outputs of a node hold, each read when it is asked for: None if it is missing or damaged.

    Args:
        node: The node.
        catalog: Where its outputs are.
        on_load: Called with each that is found.
    """

    def __init__(self, node: Node, catalog: CatalogProtocol[Any, Any], on_load: Callable[[object], None]) -> None:
        self._names, self._catalog, self._on_load = node.outputs, catalog, on_load

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, position: int) -> Any: ...
    @overload
    def __getitem__(self, position: slice) -> list[Any]: ...
    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return [self[number] for number in range(len(self))[position]]
        return _load(self._catalog, self._names[position], self._on_load)


def supply_earlier(
    node: Node, catalog: CatalogProtocol[Any, Any], on_load: Callable[[object], None]
) -> dict[str, Any] | None:
    """Return the inputs of a node that are of an earlier command, as ``before_node_run`` may; None if it has none."""
    supplied: dict[str, Any] = {}
    for entry, parameter in supplied_entries(node).items():
        if parameter == EARLIER_RESULTS:
            supplied[entry] = EarlierOutputs(node, catalog, on_load)
        else:
            supplied[entry] = _load(catalog, earlier_entry(entry, parameter), on_load)
    return supplied or None


def supplied_entries(node: Node) -> dict[str, str]:
    """Return the inputs of a node that the hooks supply, each with the parameter of the function that takes it."""
    entries = {name: entry_of(node, name) for name in (EARLIER_RESULTS, *EARLIER_ENTRIES)}
    return {entry: parameter for parameter, entry in entries.items() if entry is not None}


def _load(catalog: CatalogProtocol[Any, Any], name: str, on_load: Callable[[object], None]) -> Any:
    from transformer_foundry.datasets.storage.earlier import load_earlier

    dataset: Any = catalog.get(name)
    found = None if dataset is None else load_earlier(dataset, name)
    if found is not None:
        on_load(found)
    return found
