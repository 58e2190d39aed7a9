"""Where the configuration keeps runs and the registry, for commands that run no pipeline."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kedro.framework.project import settings
from kedro.utils import find_kedro_project
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.core.base.errors import FoundryError, error_message, find_foundry_error
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER, RUN_MANIFEST_FILE, registry_folder, runs_folder

__all__ = ["Storage", "configured_storage"]

_log = logging.getLogger(__name__)

_NAME = "the-name-of-a-run"
"""Stands for any ``run.name`` in a path of the catalog."""

_PLACEHOLDER = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Storage:
    """Where commands find what runs have made.

    Attributes:
        data_dir: Root of what the project writes by default.
        patterns: Paths of the entries that are runs, each with a place for the name of a run.
        registry: Folder of the model registry.
    """

    data_dir: str
    patterns: tuple[str, ...]
    registry: Path

    @property
    def folder(self) -> Path:
        """Folder of the runs of the first entry."""
        first = Path(self.patterns[0])
        return next((path.parent for path in (*reversed(first.parents), first) if _NAME in path.name), first.parent)

    def run(self, name: str) -> Path:
        """Return the folder of a run: the one that exists, else the one that the first entry gives it."""
        folders = [Path(pattern.replace(_NAME, name)) for pattern in self.patterns if _NAME in pattern]
        fixed = [Path(pattern) for pattern in self.patterns if Path(pattern).name == name]
        named = (path for path in self.runs() if path.name == name)
        found = [path for path in (*folders, *fixed, *named) if path.is_dir()]
        return (found or folders or [self.folder / name])[0]

    def runs(self) -> list[Path]:
        """Return the folders of all runs."""
        places = (_NAME.join(map(glob.escape, pattern.split(_NAME))).replace(_NAME, "*") for pattern in self.patterns)
        found = {Path(path) for place in places for path in glob.glob(place)}
        return sorted(path for path in found if any((path / name).exists() for name in _OF_A_RUN))


_OF_A_RUN = (RUN_MANIFEST_FILE, CHECKPOINTS_FOLDER)


def configured_storage(
    data_dir: str | None = None,
    env: str | None = None,
    params: Mapping[str, Any] | None = None,
    conf_source: str | None = None,
) -> Storage:
    """Return where the catalog of the project that contains the working directory keeps runs and the registry.

    Args:
        data_dir: In place of that of the configuration.
        env: As ``kedro run --env``.
        params: As ``kedro run --params``, by section.
        conf_source: As ``kedro run --conf-source``.

    Raises:
        ParameterError: If there is no such environment, or ``data_dir`` cannot be read.
    """
    project = find_kedro_project(Path.cwd()) or Path.cwd()
    source = Path(conf_source) if conf_source else project / settings.CONF_SOURCE
    base = settings.CONFIG_LOADER_ARGS.get("base_env", "base")
    if not conf_source and not (source / base).is_dir():
        return _usual(data_dir or "data")
    given = {**(params or {}), **({"data_dir": data_dir} if data_dir else {})}
    kind = settings.CONFIG_LOADER_CLASS
    make = partial(
        kind if issubclass(kind, FoundryConfigLoader) else FoundryConfigLoader,
        str(source),
        env=env or os.environ.get("KEDRO_ENV"),
        **{"base_env": "base", "default_run_env": "local", **settings.CONFIG_LOADER_ARGS},
    )
    loader = make(runtime_params=given)
    usual = _usual(loader.data_dir())
    given["run"] = {**given.get("run", {}), "name": _NAME}
    named = make(runtime_params=given)
    try:
        catalog = named["catalog"]
    except (FoundryError, OmegaConfBaseException, YAMLError, ValueError) as err:
        # What runs have made can be listed whatever else is wrong in conf/.
        found = find_foundry_error(err)
        why = error_message(err) if found is None else found.problem
        _log.warning("Runs are looked for in %s, because the catalog cannot be read: %s", usual.folder, why)
        return usual
    patterns = _paths(catalog, "TrainingRunDataset", project)
    registries = _paths(catalog, "RegistryDataset", project)
    return Storage(
        usual.data_dir, tuple(patterns) or usual.patterns, Path(registries[0]) if registries else usual.registry
    )


def _usual(data_dir: str) -> Storage:
    return Storage(data_dir, (str(runs_folder(data_dir) / _NAME),), registry_folder(data_dir))


def _paths(catalog: Mapping[str, Any], kind: str, project: Path) -> list[str]:
    """Return the different paths of the entries of a type, as they are typed here; ``training_run`` comes first."""
    found = [
        _PLACEHOLDER.sub(_NAME, str(entry["filepath"]).removeprefix("file://"))
        for _, entry in sorted(catalog.items(), key=lambda item: (item[0] != "training_run", item[0]))
        if isinstance(entry, Mapping) and str(entry.get("type", "")).endswith(kind) and entry.get("filepath")
    ]
    absolute = [os.path.abspath(project / path) for path in dict.fromkeys(found)]
    here = Path.cwd()
    return [str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path for path in absolute]
