"""What a callback knows about the command that runs: options, folders and what the pipeline reads and writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.system.process import is_main_process

if TYPE_CHECKING:
    from transformer_foundry.datasets import StudyDataset, TrainingRunDataset

__all__ = ["RunContext", "find_dataset", "make_run_context"]

DatasetT = TypeVar("DatasetT")
OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class RunContext:
    """The command that runs.

    Attributes:
        parameters: All sections of the parameters.
        env: The preset; None for the quick one.
        runtime_params: What was given with ``--params``, by section.
        pipeline_names: The pipelines that were asked for; empty for the default.
        pipeline: The nodes that run.
        catalog: Where their inputs and outputs are.
        data_dir: Root of everything that is written.
        paths: Folders of the run, as the catalog has them.
        files: File or folder of each catalog entry under ``data_dir``, by the name of the entry; runs are left out.
        run: The training run that the pipeline reads or writes.
        trains: Whether the pipeline writes it.
        study: The study that the pipeline writes.
        is_main_process: False in the processes of torchrun other than the first.
    """

    parameters: Mapping[str, Any]
    env: str | None
    runtime_params: Mapping[str, Any]
    pipeline_names: tuple[str, ...]
    pipeline: Pipeline
    catalog: DataCatalog
    data_dir: Path
    paths: RunPaths
    files: Mapping[str, Path]
    run: TrainingRunDataset | None
    trains: bool
    study: StudyDataset | None
    is_main_process: bool

    def options(self, options_class: type[OptionsT]) -> OptionsT:
        """Return the section of the parameters that ``options_class`` defines.

        Example:
            ``context.options(TrackingOptions).project``
        """
        section = next((name for name, kind in SECTIONS.items() if kind is options_class), None)
        assert section is not None, f"{options_class.__name__} is no section in config.parameters.SECTIONS"
        return parse_options(options_class, self.parameters.get(section), section)


def make_run_context(
    config: Mapping[str, Any], run_params: Mapping[str, Any], pipeline: Pipeline, catalog: DataCatalog
) -> RunContext:
    """Return the context of a command.

    Args:
        config: Kedro's configuration loader.
        run_params: What Kedro knows about the command.
        pipeline: The nodes that run.
        catalog: Where their inputs and outputs are.
    """
    from transformer_foundry.datasets import StudyDataset, TrainingRunDataset

    parameters, entries = config["parameters"], config["catalog"]
    data_dir = Path(parameters["data_dir"])
    written = find_dataset(catalog, pipeline.all_outputs(), TrainingRunDataset)
    run = written or find_dataset(catalog, pipeline.datasets(), TrainingRunDataset)
    paths = _paths(parameters, entries)
    return RunContext(
        parameters=parameters,
        env=run_params.get("env"),
        runtime_params=run_params.get("runtime_params") or {},
        pipeline_names=tuple(run_params.get("pipeline_names") or ()),
        pipeline=pipeline,
        catalog=catalog,
        data_dir=data_dir,
        paths=paths if run is None else dataclasses.replace(paths, run=run.folder),
        files=_files(entries, data_dir),
        run=run,
        trains=written is not None,
        study=find_dataset(catalog, pipeline.all_outputs(), StudyDataset),
        is_main_process=is_main_process(),
    )


def find_dataset(catalog: DataCatalog, names: set[str], kind: type[DatasetT]) -> DatasetT | None:
    """Return the first dataset among ``names`` that is a ``kind``, None if there is none.

    Only for names of the pipeline that runs: the catalog builds a dataset, and imports its library, at the first use.
    """
    datasets = (catalog.get(name) for name in sorted(names))
    return next((dataset for dataset in datasets if isinstance(dataset, kind)), None)


def _paths(parameters: Mapping[str, Any], entries: Mapping[str, Any]) -> RunPaths:
    """Return the folders of the run: those of the catalog where it has them."""
    run = parameters["run"]
    paths = RunPaths.under(parameters["data_dir"], run["name"], run.get("preparation"))
    found = {_class_name(entry): Path(entry["filepath"]) for entry in entries.values() if _has_path(entry)}
    return dataclasses.replace(
        paths,
        run=found.get("TrainingRunDataset", paths.run),
        package=found.get("PackageDataset", paths.package),
        model_input=found["TokenSplitsDataset"].parent if "TokenSplitsDataset" in found else paths.model_input,
        tuning=found["StudyDataset"].parent if "StudyDataset" in found else paths.tuning,
    )


def _files(entries: Mapping[str, Any], data_dir: Path) -> dict[str, Path]:
    paths = {
        name: Path(entry["filepath"])
        for name, entry in entries.items()
        if _has_path(entry) and _class_name(entry) != "TrainingRunDataset"
    }
    return {name: path for name, path in paths.items() if data_dir in path.parents}


def _has_path(entry: object) -> bool:
    return isinstance(entry, Mapping) and "filepath" in entry


def _class_name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("type")).rpartition(".")[2]
