"""Whether what the pipeline reads exists, here or in the copy on Drive."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER
from transformer_foundry.hooks.preflight.chosen_run import run_line
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["require_inputs", "require_versions"]


def require_inputs(context: RunContext) -> None:
    """Refuse a pipeline that reads what another pipeline has not made yet.

    What no pipeline makes may be missing.

    Raises:
        DataError: Naming what is missing and the pipelines that make it.
    """
    catalog = context.catalog
    producers: dict[str, str] = {}
    for name, pipeline in pipelines.items():
        for node in pipeline.nodes if name != "__default__" else ():
            stage = (node.namespace or name).partition(".")[0]
            producers |= {entry: stage for entry in node.outputs if entry not in producers}
    inputs = sorted(entry for entry in context.pipeline.inputs() if entry in producers or _is_kedros(catalog, entry))
    missing = [entry for entry in inputs if not (_is_readable(catalog, entry) or _has_copy(context, entry))]
    optional = [entry for entry in missing if _is_kedros(catalog, entry) and _may_be_none(context.pipeline, entry)]
    makers = sorted({producers[entry] for entry in optional if entry in producers})
    first = f"; or run 'kedro run --pipelines {','.join(makers)}' first" if makers else ""
    if optional and not {entry for entry in missing if entry in producers} - {*optional}:
        raise DataError(
            f"{short_list(optional)} does not exist yet, and {type(catalog.get(optional[0])).__name__} of the catalog "
            "cannot load what is missing.",
            "Expected a dataset that loads None then: the node that reads it works without it.",
            f"Give {short_list(optional)} the type transformer_foundry.datasets.OptionalJSONDataset, or one of yours "
            f"with a method is_readable{first}.",
        )
    if missing := [entry for entry in missing if entry in producers]:
        needed = {producers[entry] for entry in missing}
        names = [name for name in pipelines if name in needed]
        in_memory = [entry for entry in missing if isinstance(catalog.get(entry), MemoryDataset)]
        if in_memory:
            raise DataError(
                f"{short_list(in_memory)} of this run has no value, and MemoryDataset keeps none between commands.",
                f"Made by {', '.join(sorted({producers[entry] for entry in in_memory}))}, which this run leaves out.",
                "Give it a type that keeps it in conf/, or run the pipelines that make and read it in one command.",
            )
        raise DataError(
            f"Missing for this run: {', '.join(missing)}.",
            run_line(context)
            or f"Made by the pipeline{'s' if len(names) > 1 else ''} {', '.join(names)}, with the same run.name.",
            f"Run 'kedro run --pipelines {','.join(names)}' first, with the same --params.",
        )


def _is_kedros(catalog: DataCatalog, entry: str) -> bool:
    """Return whether the dataset is one of Kedro's own: they cannot be missing."""
    return type(catalog.get(entry)).__module__.partition(".")[0] in ("kedro", "kedro_datasets")


def _may_be_none(pipeline: Pipeline, entry: str) -> bool:
    """Return whether every node that reads an entry takes None for it."""
    annotations = []
    for node in pipeline.nodes:
        names = list(inspect.signature(node.func).parameters.values())
        given = node._inputs.items() if isinstance(node._inputs, dict) else zip(names, node.inputs, strict=False)
        parameters = {parameter.name: parameter for parameter in names}
        for key, read in given:
            if read == entry:
                parameter = parameters.get(key) if isinstance(key, str) else key
                annotations.append(str(parameter.annotation) if parameter is not None else "")
    return bool(annotations) and all(re.search(r"\bNone\b|\bOptional\b", text) for text in annotations)


def require_versions(context: RunContext) -> None:
    """Refuse ``--load-versions`` of a version that does not exist, here or in the copy on Drive.

    Raises:
        DataError: With the versions that exist.
    """
    for entry in sorted(context.pipeline.datasets()):
        dataset = context.catalog.get(entry)
        if not isinstance(dataset, AbstractVersionedDataset):
            continue
        asked = vars(dataset)["_version"]
        if not asked or not asked.load:
            continue
        version, known = asked.load, _versions_of(dataset)
        if version not in known and not _has_copy(context, entry, version):
            raise DataError(
                f"{entry} has no version {version}.",
                f"Its versions are {short_list(known)}."
                if known
                else f"It has no versions yet in {dataset._filepath}.",
                f"Use --load-versions {entry}:{known[0]}, or leave it out to load the newest one."
                if known
                else f"Leave --load-versions {entry}:{version} out.",
            )


def _versions_of(dataset: AbstractVersionedDataset[Any, Any]) -> list[str]:
    """Return the versions that exist, the newest first."""
    found = sorted(dataset._glob_function(str(dataset._get_versioned_path("*"))), reverse=True)
    return [Path(path).parent.name for path in found if dataset._exists_function(path)]


def _is_readable(catalog: DataCatalog, entry: str) -> bool:
    """Return whether there is something to load: a run that is not finished, which does not "exist", has a model."""
    is_readable = getattr(catalog.get(entry), "is_readable", None)
    return bool(catalog.exists(entry) if is_readable is None else is_readable())


def _has_copy(context: RunContext, entry: str, version: str = "") -> bool:
    """Return whether Drive has a copy of what is missing here: it is restored once the command is accepted."""
    copies = find_folder(context.options(DriveOptions).folder)
    if copies is None:
        return False
    if context.run is not None and context.catalog.get(entry) is context.run:
        return _has_entries(copies / context.paths.name / CHECKPOINTS_FOLDER)
    path = context.files.get(entry)
    return path is not None and _has_entries(copies / "files" / path.relative_to(context.data_dir) / version)


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False
