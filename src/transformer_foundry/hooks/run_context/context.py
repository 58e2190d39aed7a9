"""What a callback knows about the run that it follows: options, folders, and what belongs to the run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kedro.config import MissingConfigException
from kedro.framework.project import pipelines, settings
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.config.run_name import RunChoice
from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.files.run_paths import RunPaths, runs_folder
from transformer_foundry.core.system.process import is_main_process
from transformer_foundry.hooks.run_context.entries import CatalogEntries
from transformer_foundry.hooks.run_context.flow import RunNodes, function_of, nodes_of_runs, types_of_outputs
from transformer_foundry.hooks.run_context.sections import names_of_run, sections_of_run

if TYPE_CHECKING:
    from transformer_foundry.datasets import PackageDataset, StudyDataset, TrainingRunDataset

__all__ = ["RunContext", "make_run_contexts"]

_ELSEWHERE = "on-a-server"

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class RunContext:
    """One training run and the command that works on it.

    A command that works on several runs has one context for each; one that works on none has one context without a run.
    What belongs to a run is found in the pipelines: nodes that write it, read it, or make what it is trained on.

    Attributes:
        parameters: All sections of the parameters, as the functions of the run's nodes get them.
        names: The names under which these nodes read sections, by section: ``training`` -> ``second.training``.
        env: The environment of the configuration; None for conf/local.
        runtime_params: What was given with ``--params``, by section.
        pipeline_names: The pipelines that were asked for; empty for the default.
        pipeline: The nodes that run, also those of other runs.
        catalog: Where their inputs and outputs are.
        data_dir: Root of what the project writes by default.
        label: Name of the run where the command works on several; else empty.
        nodes: The nodes of the run, also those of other pipelines than the one that runs.
        configured_paths: Folders of the run, as the catalog has them, without versions.
        files: Local file or folder of each catalog entry of the run, by the name of the entry; runs are left out.
        results: Entries of the run that keep plain values: reports and other results, of any type of dataset.
        run: The training run that the pipeline reads or writes.
        trains: Whether the pipeline writes it.
        study: The study that the pipeline writes.
        package: The package of the run.
        is_main_process: False in the processes of torchrun other than the first.
        run_choice: How the name of the run was found; None for a run with a folder of its own.
        runner: The text that Kedro records of the runner; empty if none was given.
        conf_source: Where the configuration is, if it is not ``conf/`` of the project; else empty.
        saved: What this command has saved in ``results``, by entry: memory keeps nothing that no node still reads.
    """

    parameters: Mapping[str, Any]
    names: Mapping[str, str]
    env: str | None
    runtime_params: Mapping[str, Any]
    pipeline_names: tuple[str, ...]
    pipeline: Pipeline
    catalog: DataCatalog
    data_dir: Path
    label: str
    nodes: frozenset[Node]
    configured_paths: RunPaths
    files: Mapping[str, Path]
    results: frozenset[str]
    run: TrainingRunDataset | None
    trains: bool
    study: StudyDataset | None
    package: PackageDataset | None
    is_main_process: bool
    run_choice: RunChoice | None = None
    runner: str = ""
    conf_source: str = ""
    saved: dict[str, Any] = field(default_factory=dict)

    def options(self, options_class: type[OptionsT]) -> OptionsT:
        """Return the section of the parameters that ``options_class`` defines.

        Example:
            ``context.options(TrackingOptions).project``
        """
        section = next((name for name, kind in SECTIONS.items() if kind is options_class), None)
        assert section is not None, f"{options_class.__name__} is no section in config.parameters.SECTIONS"
        options: OptionsT = as_options(options_class, self.parameters.get(section), section)
        return options

    @property
    def paths(self) -> RunPaths:
        """Folders of the run: that of the package with its newest version, or of its local copy."""
        folder = None if self.package is None else self.package.known_folder
        paths = self.configured_paths
        if folder is None and self.package is not None and self.package.address is not None:
            # A folder that does not exist: an earlier package in the usual place is another one.
            folder = paths.package / _ELSEWHERE
        return paths if folder is None else dataclasses.replace(paths, package=_shortened(folder))

    @property
    def publishes(self) -> bool:
        """Whether a node publishes a package, if ``deployment.hub_repo`` is set."""
        return any(function_of(node) == "publish_package" for node in self.pipeline.nodes)

    def made_by(self, function: str, kind: str) -> str | None:
        """Return the entry in which a node of this project that calls ``function`` keeps an output of a type.

        Example:
            ``context.made_by("draw_search", "DataFrame")`` is ``"trials"`` unless the entry has another name.
        """
        nodes = (node for node in self.nodes if function_of(node) == function)
        return next((name for node in nodes for name, found in types_of_outputs(node).items() if found == kind), None)

    def load_results(self) -> dict[str, Any]:
        """Return the values in ``results`` that exist, by entry: those of this command and of earlier ones.

        A file that is damaged or of another program is left out.
        """
        found = {}
        for name in sorted(self.results):
            if name in self.saved:
                found[name] = self.saved[name]
            with contextlib.suppress(DatasetError):
                if self.catalog.exists(name):
                    found[name] = self.catalog.load(name)
        return found


@dataclass(frozen=True)
class _Command:
    """What all runs of a command share."""

    parameters: Mapping[str, Any]
    runtime_params: Mapping[str, Any]
    run_params: Mapping[str, Any]
    pipeline: Pipeline
    catalog: DataCatalog
    known: frozenset[Node]
    entries: CatalogEntries
    data_dir: Path
    run_choice: RunChoice | None
    conf_source: str


def make_run_contexts(
    config: Mapping[str, Any],
    run_params: Mapping[str, Any],
    pipeline: Pipeline,
    catalog: DataCatalog,
    project: Path | None = None,
) -> list[RunContext]:
    """Return the context of each run that a command works on, or the one of a command without a run.

    Args:
        config: Kedro's configuration loader.
        run_params: What Kedro knows about the command.
        pipeline: The nodes that run.
        catalog: Where their inputs and outputs are.
        project: Root of the project.
    """
    from transformer_foundry.datasets import TrainingRunDataset

    known = frozenset(pipeline.nodes).union(*(registered.nodes for registered in pipelines.values()))
    parameters = _parameters_of(config)
    command = _Command(
        parameters,
        # The loader has the preset that --env standard means, too.
        getattr(config, "runtime_params", None) or run_params.get("runtime_params") or {},
        run_params,
        pipeline,
        catalog,
        known,
        CatalogEntries(catalog, pipeline.datasets()),
        _shortened((project or Path()) / parameters.get("data_dir", "data")),
        getattr(config, "run_choice", None),
        _conf_source(config, project or Path()),
    )
    datasets = command.entries.find(_entries_of(known), TrainingRunDataset)
    folders = {name: os.path.abspath(dataset.folder) for name, dataset in datasets.items()}
    nodes = nodes_of_runs(known, folders)
    chosen = _runs_of(pipeline, folders, nodes)
    if not chosen:
        return [_make_context(command, RunNodes(frozenset(), frozenset(), known), {}, name=None, label="")]
    names = _names_of(folders, command.parameters)
    contexts = []
    for folder in chosen:
        own = {entry: datasets[entry] for entry, found in folders.items() if found == folder}
        mine = nodes[folder]
        if len(nodes) == 1:  # what is connected with no run belongs to the only one
            mine = dataclasses.replace(mine, before=known - mine.trainers - mine.after)
        label = names[folder] if len(chosen) > 1 else ""
        contexts.append(_make_context(command, mine, own, name=names[folder], label=label))
    return contexts


def _conf_source(config: Mapping[str, Any], project: Path) -> str:
    """Return where the configuration is, as it is typed here; empty for ``conf/`` of the project."""
    source = str(getattr(config, "conf_source", "") or "")
    usual = os.path.abspath(project / settings.CONF_SOURCE)
    return "" if not source or os.path.abspath(source) == usual else str(_shortened(Path(source)))


def _parameters_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        parameters: Mapping[str, Any] = config["parameters"]
    except MissingConfigException:  # another project may have none
        return {}
    return parameters


def _make_context(
    command: _Command, nodes: RunNodes, runs: Mapping[str, TrainingRunDataset], *, name: str | None, label: str
) -> RunContext:
    from transformer_foundry.datasets import PackageDataset, StudyDataset

    pipeline, entries = command.pipeline, command.entries
    written = [runs[entry] for entry in sorted(runs.keys() & pipeline.all_outputs())]
    touched = written or [runs[entry] for entry in sorted(runs.keys() & pipeline.datasets())]
    names = _entries_of(nodes.all) - runs.keys()
    files = {entry: path for entry in names if (path := entries.local_path(entry)) is not None}
    files = {entry: _shortened(path) for entry, path in files.items()}
    studies = entries.find(names & pipeline.all_outputs(), StudyDataset)
    parameter_names = names_of_run(_in_order(nodes, pipeline) if runs else pipeline.nodes)
    return RunContext(
        parameters=sections_of_run(command.parameters, parameter_names, command.known),
        names=parameter_names,
        env=command.run_params.get("env"),
        runtime_params=command.runtime_params,
        pipeline_names=tuple(command.run_params.get("pipeline_names") or ()),
        pipeline=pipeline,
        catalog=command.catalog,
        data_dir=command.data_dir,
        label=label,
        nodes=nodes.all,
        configured_paths=_paths(command, nodes, runs, files, name),
        files=files,
        results=frozenset(entry for entry in names if entries.is_json(entry)) | (_mappings_of(nodes.all) & names),
        run=touched[0] if touched else None,
        trains=bool(written),
        study=next(iter(studies.values()), None),
        package=next(iter(entries.find(names, PackageDataset).values()), None),
        is_main_process=is_main_process(),
        run_choice=_choice(command.run_choice, touched, command.parameters),
        runner=str(command.run_params.get("runner") or ""),
        conf_source=command.conf_source,
    )


def _in_order(nodes: RunNodes, pipeline: Pipeline) -> list[Node]:
    """Return the nodes of a run, last those that decide what its parameters are: that run now, and that train."""
    groups = [sorted(group) for group in (nodes.before, nodes.after, nodes.trainers)]
    running = frozenset(pipeline.nodes)
    return [node for runs in (False, True) for group in groups for node in group if (node in running) is runs]


def _choice(
    choice: RunChoice | None, runs: Sequence[TrainingRunDataset], parameters: Mapping[str, Any]
) -> RunChoice | None:
    """Return the choice of a name if it is that of these runs: an entry of the catalog may have another folder."""
    if choice is None or not runs:
        return choice
    named = os.path.abspath(runs_folder(parameters["data_dir"]) / choice.name)
    return choice if os.path.abspath(runs[0].folder) == named else None


def _paths(
    command: _Command,
    nodes: RunNodes,
    runs: Mapping[str, TrainingRunDataset],
    files: Mapping[str, Path],
    name: str | None,
) -> RunPaths:
    """Return the folders of the run: those of the catalog where it has them."""
    from transformer_foundry.datasets import (
        PackageDataset,
        RegistryDataset,
        StudyDataset,
        TokenizerDataset,
        TokenSplitsDataset,
    )

    section = command.parameters.get("run") or {}
    name, preparation = name or section.get("name") or "run", section.get("preparation")
    default = RunPaths.under(command.data_dir, name, preparation if name == section.get("name") else None)
    if runs:
        default = dataclasses.replace(default, run=_shortened(next(iter(runs.values())).folder))
    if "data_dir" not in command.parameters:
        default = dataclasses.replace(default, reports=default.run, shared_reports=default.run)
    results = {entry: path for entry, path in files.items() if path.suffix}

    def first(*kinds: type[Any]) -> Path | None:
        found = [entry for kind in kinds for entry in command.entries.find(files, kind)]
        return files[found[0]] if found else None

    def parent(path: Path | None, otherwise: Path) -> Path:
        return otherwise if path is None else path.parent

    return dataclasses.replace(
        default,
        package=first(PackageDataset) or default.package,
        registry=first(RegistryDataset) or default.registry,
        model_input=parent(first(TokenSplitsDataset, TokenizerDataset), default.model_input),
        tuning=parent(first(StudyDataset), default.tuning),
        reports=_folder_of(_made_by(nodes.trainers | nodes.after, results), default.reports),
        shared_reports=_folder_of(_made_by(nodes.before, results), default.shared_reports),
    )


def _made_by(nodes: Iterable[Node], files: Mapping[str, Path]) -> list[Path]:
    return [files[name] for node in nodes for name in node.outputs if name in files]


def _folder_of(results: Collection[Path], default: Path) -> Path:
    """Return the folder that most of ``results`` are in; ``default`` if one is there or there is none."""
    counts = Counter(path.parent for path in results)
    if not counts or default in counts:
        return default
    return max(sorted(counts), key=counts.__getitem__)


def _runs_of(pipeline: Pipeline, folders: Mapping[str, str], nodes: Mapping[str, RunNodes]) -> list[str]:
    """Return the runs that a pipeline reads or writes; if there are none, those that it makes something for.

    Of these, a run of another pipeline than the default one counts only if the default one makes none of them: what
    ``kedro run --pipelines validation`` makes is not for the second training of a pipeline of its own.
    """
    touched = {folders[name] for name in pipeline.datasets() & folders.keys()}
    if touched:
        return sorted(touched)
    running = frozenset(pipeline.nodes)
    served = {folder for folder, own in nodes.items() if own.all & running}
    default = frozenset(pipelines["__default__"].nodes) if "__default__" in pipelines else frozenset()
    return sorted({folder for folder in served if nodes[folder].trainers & default} or served)


def _names_of(folders: Mapping[str, str], parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return a name for each run: ``run.name`` for the only one, else those of their folders, made different."""
    found = set(folders.values())
    given = (parameters.get("run") or {}).get("name")
    if len(found) == 1 and given:
        return dict.fromkeys(found, given)
    n_parts = 1
    while len({tuple(folder.split(os.sep)[-n_parts:]) for folder in found}) < len(found):
        n_parts += 1
    return {folder: "-".join(folder.split(os.sep)[-n_parts:]) for folder in found}


def _entries_of(nodes: Iterable[Node]) -> set[str]:
    names = {name.partition("@")[0] for node in nodes for name in (*node.inputs, *node.outputs)}
    return {name for name in names if name != "parameters" and not name.startswith("params:")}


def _mappings_of(nodes: Iterable[Node]) -> set[str]:
    """Return the entries in which nodes of this project keep a mapping: they may be of any type of dataset."""
    return {name for node in nodes for name, kind in types_of_outputs(node).items() if kind == "dict[str, Any]"}


def _shortened(path: Path) -> Path:
    """Return a path in the working directory relative to it, as a user writes it."""
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path
