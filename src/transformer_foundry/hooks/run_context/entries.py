"""What the catalog knows of an entry before anything is built: its configuration, its type and where its file is."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kedro.io import AbstractDataset, CachedDataset, DataCatalog, DatasetError

__all__ = ["CatalogEntries", "is_of_kedro"]

DatasetT = TypeVar("DatasetT")

_OURS = "transformer_foundry."


class CatalogEntries:
    """The entries of a catalog, also those that only a pattern defines.

    A dataset is built, and its library imported, only where its class has to be known.

    Args:
        catalog: The catalog.
        used: Entries of the pipeline that runs; their datasets are built anyway.
    """

    def __init__(self, catalog: DataCatalog, used: Iterable[str]) -> None:
        self._catalog, self._used = catalog, frozenset(used)

    def find(self, names: Iterable[str], kind: type[DatasetT]) -> dict[str, DatasetT]:
        """Return the datasets among ``names`` that are a ``kind``, by entry."""
        datasets = {name: self._dataset(name) for name in sorted(names)}
        return {name: dataset for name, dataset in datasets.items() if isinstance(dataset, kind)}

    def kind(self, name: str) -> str:
        """Return the type of an entry as the catalog names it; empty if it has no entry."""
        return str(self._config(name).get("type", ""))

    def local_path(self, name: str) -> Path | None:
        """Return the file or folder of an entry; None if it is in memory, in a database or on a server."""
        path = str(_cached_in(self._config(name)).get("filepath") or "").removeprefix("file://")
        return None if not path or "://" in path else Path(path)

    def is_versioned(self, name: str) -> bool:
        """Return whether each save of an entry is a version of its own."""
        return bool(_cached_in(self._config(name)).get("versioned"))

    def is_json(self, name: str) -> bool:
        """Return whether an entry keeps plain values as text; a figure of plotly does not count."""
        kind = str(self._config(name).get("type"))
        return kind.endswith(("JSONDataset", "YAMLDataset")) and "plotly" not in kind.split(".")

    def _dataset(self, name: str) -> AbstractDataset[Any, Any] | None:
        config = _cached_in(self._config(name))
        kind = str(config.get("type", "MemoryDataset"))
        if name in self._used and not is_of_kedro(kind):
            return _cached_by(self._catalog.get(name))
        if not kind.startswith(_OURS):
            return None
        with contextlib.suppress(DatasetError):  # an entry that is not used stops no run
            if self._is_made_by_program(name):
                return _cached_by(self._catalog.get(name))
            # The catalog itself would keep it, and Kedro checks for ParallelRunner all that a catalog has built.
            made: AbstractDataset[Any, Any] = AbstractDataset.from_config(name, dict(config))
            return made
        return None

    def _config(self, name: str) -> Mapping[str, Any]:
        if name not in self._catalog:
            return {}
        if self._is_made_by_program(name):
            return _config_of(self._catalog[name])
        return self._catalog.config_resolver.resolve_pattern(name)

    def _is_made_by_program(self, name: str) -> bool:
        resolver = self._catalog.config_resolver
        return name not in resolver.config and name in self._catalog.keys()  # noqa: SIM118 - no patterns


def _cached_in(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a CachedDataset keeps its content in; any other entry as it is."""
    inner = config.get("dataset")
    is_cached = str(config.get("type", "")).rpartition(".")[2] == CachedDataset.__name__
    return inner if is_cached and isinstance(inner, Mapping) else config


def _cached_by(dataset: AbstractDataset[Any, Any] | None) -> AbstractDataset[Any, Any] | None:
    return dataset._dataset if isinstance(dataset, CachedDataset) else dataset


def _config_of(dataset: AbstractDataset[Any, Any]) -> Mapping[str, Any]:
    """Return how a dataset would be configured."""
    made: Mapping[str, Any] = {"type": f"{type(dataset).__module__}.{type(dataset).__qualname__}"}
    with contextlib.suppress(Exception):  # arguments that no configuration can hold: a lock, a client of a database
        made = DataCatalog({"made": dataset}).to_config()[0].get("made", made)
    return {**made, **made.get("kwargs", {})}  # so Kedro describes a class that inherits its constructor


def is_of_kedro(kind: str) -> bool:
    """Return whether a type is one of Kedro's own, which it also finds by a short name: ``json.JSONDataset``."""
    package = kind.partition(".")[0]
    return package == kind or package in ("kedro", "kedro_datasets") or package in _packages_of_kedro()


@cache
def _packages_of_kedro() -> frozenset[str]:
    spec = importlib.util.find_spec("kedro_datasets")
    folders = (spec.submodule_search_locations if spec else None) or ()
    return frozenset(path.name for folder in folders for path in Path(folder).iterdir())
