"""Whether the entries of the catalog can keep what our nodes make, and whether what is continued is the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.pipeline.node import Node

from transformer_foundry import datasets
from transformer_foundry.config.own_nodes import entry_of
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.run_context.entries import CatalogEntries, is_of_kedro
from transformer_foundry.hooks.run_context.flow import earlier_entries, function_of, types_of_outputs

__all__ = ["require_outputs"]


_MOST_NAMED = 4
"""Types of Kedro that a message names."""


@dataclass(frozen=True)
class _Keeper:
    """What can keep a result.

    Attributes:
        ours: Datasets of this project.
        kedros: Types of kedro-datasets that load what they have saved.
        save_only: Types of kedro-datasets that do not, for entries that no node reads.
        in_memory: Whether the result may have no file.
    """

    ours: tuple[str, ...]
    kedros: tuple[str, ...] = ("pickle.PickleDataset",)
    save_only: tuple[str, ...] = ()
    in_memory: bool = True


_TABLES = ("CSV", "Parquet", "Excel", "JSON", "Feather", "XML", "HDF", "SQLTable", "GBQTable", "DeltaTable", "Generic")
"""Types of kedro-datasets that write a table of pandas: ``pandas.CSVDataset``."""

# What a node returns -> what can keep it. Results of the first three arrive one by one, and are continued.
_KEEPERS: Mapping[str, _Keeper] = {
    "Iterator[Event]": _Keeper(("TrainingRunDataset",), (), in_memory=False),
    "Iterator[TrialResult]": _Keeper(("StudyDataset",), (), in_memory=False),
    "Iterator[CandidateResult]": _Keeper(("ComparisonDataset",), (), in_memory=False),
    "dict[str, Any]": _Keeper(
        ("AtomicJSONDataset", "OptionalJSONDataset"),
        ("json.JSONDataset", "yaml.YAMLDataset", "pickle.PickleDataset", "redis.PickleDataset"),
    ),
    "Corpus": _Keeper(("CorpusDataset",), ()),
    "DataFrame": _Keeper((), (*(f"pandas.{name}Dataset" for name in _TABLES), "pickle.PickleDataset")),
    "Tokenizer": _Keeper(("TokenizerDataset",)),
    "TokenSplits": _Keeper(("TokenSplitsDataset",)),
    "Package": _Keeper(("PackageDataset", "HubPackageDataset"), ()),
    "Registration": _Keeper(("RegistryDataset",), (), in_memory=False),
    "Figure": _Keeper(
        ("PlotlyFigureDataset",), ("plotly.JSONDataset", "pickle.PickleDataset"), ("plotly.HTMLDataset",)
    ),
    "MatplotlibFigure": _Keeper(("FigureDataset",), save_only=("matplotlib.MatplotlibDataset",)),
}


def require_outputs(context: RunContext) -> None:
    """Refuse a type of the catalog that cannot keep the result of a node, and a result that continues another one.

    A type that is neither ours nor Kedro's is the user's own, in whatever package: it may inherit from ours.

    Raises:
        ParameterError: Naming the entries.
    """
    entries = CatalogEntries(context.catalog, context.pipeline.datasets())
    nodes = [node for node in context.pipeline.nodes if function_of(node) is not None]
    read = {name for node in context.nodes for name in (*node.inputs, *earlier_entries(node))}
    for name in sorted(context.pipeline.all_outputs()):
        if entries.is_versioned(name):
            _require_versions(name, context.files.get(name))
    for node in nodes:
        for name, hint in types_of_outputs(node).items():
            if hint in _KEEPERS and entries.kind(name):
                _require_type(name, entries.kind(name), _KEEPERS[hint], node, is_read=name in read)
    for node in nodes:
        _require_same_place(entries, node)
    _require_one_registry(entries, nodes)


def _require_versions(name: str, path: Path | None) -> None:
    """Refuse versions below a file: Kedro would do so after the node."""
    if path is not None and path.is_file():
        raise ParameterError(
            f"{name} has 'versioned: true' in the catalog, but {path} is a file without a version.",
            "Expected nothing there, or a folder of versions.",
            f"Choose another filepath, or move the file to {path}/2026-01-31T12.00.00.000Z/{path.name}.",
        )


def _require_type(name: str, kind: str, keeper: _Keeper, node: Node, *, is_read: bool) -> None:
    package, _, dataset = kind.removeprefix("kedro_datasets.").rpartition(".")
    # An entry that is made already has the module of its class: json.json_dataset.JSONDataset.
    short = f"{package.partition('.')[0]}.{dataset}"
    if kind.startswith("transformer_foundry.datasets.") and dataset in dir(datasets):
        fits = dataset in keeper.ours
    elif kind.startswith("kedro.") or not package:  # in memory, or cached there
        fits = keeper.in_memory
    else:
        fits = not is_of_kedro(kind) or short in keeper.kedros or (short in keeper.save_only and not is_read)
    if not fits:
        types = [*(f"transformer_foundry.datasets.{kind}" for kind in keeper.ours[:1]), *keeper.kedros[:_MOST_NAMED]]
        use = "uses again what that type cannot load" if short in keeper.save_only else "makes what that cannot keep"
        raise ParameterError(
            f"{name} is of the type {kind} in the catalog, but {node.name} {use}.",
            f"Expected {' or '.join(types)}.",
            f"Set the type of {name} in conf/local/catalog.yml; docs/storage.md lists the types.",
        )


def _require_same_place(entries: CatalogEntries, node: Node) -> None:
    """Refuse a node that would continue what is kept under one entry under another one: it would start anew each time.

    Each of our nodes continues one thing at most: a run, a study or a comparison.
    """
    from transformer_foundry.datasets import ComparisonDataset, StudyDataset, TrainingRunDataset

    for kind in (TrainingRunDataset, StudyDataset, ComparisonDataset):
        written, read = _places(entries, node.outputs, kind), _places(entries, node.inputs, kind)
        for (entry, place), (earlier, found) in ((new, old) for new in written for old in read):
            if place != found:
                raise ParameterError(
                    f"{node.name} writes {entry} to {place}, but continues {earlier} of {found}.",
                    f"Expected one place for both: from two, {node.name} starts anew with each command.",
                    f"Give {earlier} the arguments of {entry} in conf/local/catalog.yml.",
                )


def _require_one_registry(entries: CatalogEntries, nodes: Iterable[Node]) -> None:
    """Refuse two registries for one package: one would know the package, and the other its publication."""
    from transformer_foundry.datasets import RegistryDataset

    first: dict[str | None, tuple[str, str]] = {}
    for node in nodes:
        for entry, place in _places(entries, (*node.inputs, *node.outputs), RegistryDataset):
            other, known = first.setdefault(entry_of(node, "model_package"), (entry, place))
            if place != known:
                raise ParameterError(
                    f"{node.name} uses {entry} in {place}, but {other} is in {known}.",
                    "Expected one registry for both: a package and its publication are registered together.",
                    f"Give {entry} and {other} the same filepath in conf/local/catalog.yml.",
                )


def _places(entries: CatalogEntries, names: Iterable[str], kind: type[Any]) -> list[tuple[str, str]]:
    return [(name, dataset.place) for name, dataset in entries.find(names, kind).items()]
