"""The parameters of the project: sections, their types, and defaults that depend on other parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from transformer_foundry.config.hook_options import DriveOptions, TrackingOptions
from transformer_foundry.config.reproduce import recorded_parameters
from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.files.local_path import is_local_path
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.studies.comparison.options import BenchmarkOptions
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.training.options import TrainingOptions

__all__ = [
    "SECTIONS",
    "TOP_LEVEL",
    "check_parameters",
    "complete_parameters",
    "default_run_name",
    "resolve_paths",
    "typed_sections",
    "without_empty_sections",
]


SECTIONS: dict[str, type[Any]] = {
    "model": ModelOptions,
    "run": RunOptions,
    "validation": ValidationOptions,
    "data": DataOptions,
    "training": TrainingOptions,
    "benchmark": BenchmarkOptions,
    "tuning": TuningOptions,
    "deployment": DeploymentOptions,
    "tracking": TrackingOptions,
    "drive": DriveOptions,
}
"""YAML section -> the dataclass that defines its keys, types and ranges."""

TOP_LEVEL = ("data_dir", "preset")
"""Parameters outside of a section."""

_PATHS = (
    ("model", "source"),
    ("model", "init_from"),
    ("data", "source"),
    ("data", "tokenizer"),
    ("run", "fork_from"),
    ("run", "reproduce"),
    ("benchmark", "models"),
)
"""Parameters that may be the path of a local file or folder, or a list of them."""


def complete_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``parameters`` with all sections and a complete section ``run``.

    Unless it is named, a run with the parameters of a search gets the name of the default run plus ``-best``, and uses
    the preparation of that run.

    Raises:
        ParameterError: If the section ``model``, ``run`` or ``training`` is invalid.
    """
    completed: dict[str, Any] = {"data_dir": "data"} | {name: {} for name in SECTIONS} | dict(parameters)
    run = parse_options(RunOptions, completed["run"], "run")
    name, preparation = run.name, run.preparation
    if run.reproduce is not None:
        completed |= recorded_parameters(Path(run.reproduce), completed, fork_from=run.fork_from)
        name = name or f"{Path(run.reproduce).resolve().parent.name}-again"
    if name is None:
        base = default_run_name(parse_options(ModelOptions, completed["model"], "model").source)
        training = parse_options(TrainingOptions, completed["training"], "training")
        name, preparation = f"{base}-best" if training.use_best else base, preparation or base
    on_change = None if run.on_change == "new" else run.on_change
    optional = {"fork_from": run.fork_from, "reproduce": run.reproduce, "on_change": on_change}
    completed["run"] = {"name": name, "preparation": preparation or name} | {
        key: value for key, value in optional.items() if value is not None
    }
    return completed


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse invalid values; ``parameter_names`` has checked the names.

    Raises:
        ParameterError: Naming the parameter, its value and what was expected.
    """
    if not isinstance(parameters.get("data_dir", "data"), str):
        raise ParameterError(
            f"data_dir is {parameters['data_dir']!r}.", "Expected the path of a folder.", "Set --params data_dir=PATH."
        )
    if not is_local_path(f"{parameters.get('data_dir', 'data')}/"):
        raise ParameterError(
            f"data_dir is {parameters['data_dir']!r}.",
            "Expected a folder of this machine: runs are resumed in it, and tokens are mapped to memory.",
            "Set data_dir=FOLDER; drive.folder copies runs elsewhere, and conf/local/catalog.yml moves single entries.",
        )
    parsed = {name: parse_options(kind, parameters.get(name), name) for name, kind in SECTIONS.items()}
    _require_equal_start(parsed)


def typed_sections(parameters: Mapping[str, Any], others: Mapping[str, str]) -> dict[str, Any]:
    """Return ``parameters`` with each section as its options, complete with defaults, whatever runs.

    Args:
        parameters: All parameters.
        others: Names of more sections and what they stand for: ``{"second.training": "training"}``. One that is not
            there is left out.

    Raises:
        ParameterError: Naming the parameter, its value and what was expected.
    """
    typed = {**parameters, **{name: parse_options(kind, parameters.get(name), name) for name, kind in SECTIONS.items()}}
    for path, section in others.items():
        typed = _replaced(typed, path.split("."), partial(parse_options, SECTIONS[section], section=path))
    return typed


def _replaced(values: dict[str, Any], keys: Sequence[str], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return ``values`` with another value under nested keys, if they are there."""
    first, *inner = keys
    if first not in values or (inner and type(values[first]) is not dict):
        return values
    return {**values, first: _replaced(values[first], inner, change) if inner else change(values[first])}


def without_empty_sections(parameters: Mapping[Any, Any], others: Iterable[str] = ()) -> dict[str, Any]:
    """Return the parameters in which sections that have no value change nothing, as with all keys commented out.

    Args:
        parameters: Those of one source.
        others: Names of more sections: ``second.training``.
    """
    kept = {str(key): value for key, value in parameters.items() if value is not None or key not in SECTIONS}
    for path in others:
        kept = _replaced(kept, path.split("."), lambda value: {} if value is None else value)
    return kept


def _require_equal_start(sections: Mapping[str, Any]) -> None:
    """Refuse pretrained weights or tuned parameters in a comparison: they favor one model."""
    given = {
        "model.init_from": sections["model"].init_from,
        "run.fork_from": sections["run"].fork_from,
        "training.use_best": sections["training"].use_best,
    }
    name, value = next(((name, value) for name, value in given.items() if value), ("", None))
    if name and sections["benchmark"].models:
        raise ParameterError(
            f"{name} is {value!r} and benchmark.models is {sections['benchmark'].models!r}.",
            "Expected a comparison in which all models start from new weights with the same settings.",
            f"Remove {name}, or train without benchmark.models.",
        )


def resolve_paths(parameters: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """Return ``parameters`` with paths that are valid in any folder of the project, as Kedro's own paths are.

    ``data_dir`` is relative to the project; what is read is relative to the working directory or, if it is not there,
    to the project. In the project's root nothing changes.
    """
    if Path.cwd() == project:
        return dict(parameters)

    def resolve(path: str) -> str:
        return str(project / path) if not Path(path).exists() and (project / path).exists() else path

    resolved = dict(parameters)
    if isinstance(data_dir := parameters.get("data_dir", "data"), str):
        resolved["data_dir"] = str(project / data_dir)
    for section, key in _PATHS:
        values = resolved.get(section)
        if isinstance(values, Mapping) and isinstance(path := values.get(key), str | list):
            paths = resolve(path) if isinstance(path, str) else [resolve(str(item)) for item in path]
            resolved[section] = dict(values) | {key: paths}
    return resolved


def default_run_name(source: str) -> str:
    """Return the default name of a run: the folder, file or gist id of its model.

    Example:
        >>> default_run_name("data/01_raw/exports/gpt")
        'gpt'
    """
    name = PurePath(source.rstrip("/")).name.removesuffix(".zip")
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
    return slug[:100] or "run"
