"""What the nodes of a pipeline read and write, by the types of datasets and the sections of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformer_foundry.config.own_nodes import sections_of
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.run_context.entries import CatalogEntries

__all__ = ["reads_dataset", "reads_section", "writes_dataset"]


def reads_section(context: RunContext, section: str) -> bool:
    """Return whether a node reads a section of the parameters."""
    return any(section in sections_of(node) for node in context.pipeline.nodes)


def reads_dataset(context: RunContext, kind: type[Any]) -> bool:
    """Return whether the pipeline reads a dataset of this type that it does not make."""
    return _has(context, context.pipeline.inputs(), kind)


def writes_dataset(context: RunContext, kind: type[Any]) -> bool:
    """Return whether the pipeline makes a dataset of this type."""
    return _has(context, context.pipeline.all_outputs(), kind)


def _has(context: RunContext, names: Iterable[str], kind: type[Any]) -> bool:
    # It builds only datasets of this project: those of others import pandas and SQLAlchemy, a second of CPU time.
    entries = CatalogEntries(context.catalog, context.pipeline.datasets())
    found = entries.find((name for name in names if not name.startswith("params:") and name != "parameters"), kind)
    return bool(found)
