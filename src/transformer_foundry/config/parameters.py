"""The project's parameters: which sections there are, the type of each, and defaults that depend on others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from transformer_foundry.config.hook_options import DriveOptions, TrackingOptions
from transformer_foundry.config.reproduce import recorded_parameters
from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.base.options import parse_options
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.experiments.comparison.options import BenchmarkOptions
from transformer_foundry.core.experiments.tuning.options import TuningOptions
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["SECTIONS", "check_parameters", "complete_parameters", "default_run_name", "resolve_paths"]


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

_PLAIN = ("data_dir",)


def complete_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``parameters`` with every section present and the section ``run`` filled in.

    A run with the parameters that a search found is another run than the one that was trained without them: unless it
    is named, it gets a name of its own and uses the preparation of the other.

    Raises:
        ParameterError: If a section that is needed for the name has the wrong form.
    """
    completed: dict[str, Any] = {"data_dir": "data"} | {name: {} for name in SECTIONS} | dict(parameters)
    run = parse_options(RunOptions, completed["run"], "run")
    name, preparation = run.name, run.preparation
    if run.reproduce is not None:
        completed |= recorded_parameters(Path(run.reproduce), fork_from=run.fork_from)
        name = name or f"{Path(run.reproduce).resolve().parent.name}-again"
    if name is None:
        base = default_run_name(parse_options(ModelOptions, completed["model"], "model").source)
        training = parse_options(TrainingOptions, completed["training"], "training")
        name, preparation = f"{base}-best" if training.use_best else base, preparation or base
    optional = {"fork_from": run.fork_from, "reproduce": run.reproduce}
    completed["run"] = {"name": name, "preparation": preparation or name} | {
        key: value for key, value in optional.items() if value is not None
    }
    return completed


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse unknown sections, unknown keys and bad values in any section.

    Raises:
        ParameterError: Naming the parameter, its value and the nearest valid name.
    """
    known = [*SECTIONS, *_PLAIN]
    for name, value in parameters.items():
        if name not in known:
            raise ParameterError(
                f"Unknown parameter {name} (value {value!r}).{suggestion(name, known)}",
                f"Known sections: {', '.join(known)}.",
                "Correct or remove it in conf/ or in --params.",
            )
    if not isinstance(parameters.get("data_dir", "data"), str):
        raise ParameterError(
            f"data_dir is {parameters['data_dir']!r}.", "Expected the path of a folder.", "Set --params data_dir=PATH."
        )
    parsed = {name: parse_options(kind, parameters.get(name), name) for name, kind in SECTIONS.items()}
    _require_own_weights(parsed)


def _require_own_weights(sections: Mapping[str, Any]) -> None:
    """Refuse to compare models of which one would begin with more than the others."""
    given = {
        "model.init_from": sections["model"].init_from,
        "run.fork_from": sections["run"].fork_from,
        "training.use_best": sections["training"].use_best,
    }
    name, value = next(((name, value) for name, value in given.items() if value), ("", None))
    if name and sections["benchmark"].models:
        raise ParameterError(
            f"{name} is {value!r} and benchmark.models is {sections['benchmark'].models!r}.",
            "Models are compared with weights of their own and the same settings.",
            f"Leave {name} out, or train without benchmark.models.",
        )


def resolve_paths(parameters: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """Return ``parameters`` so that a command works from any folder of the project, as Kedro's own paths do.

    ``data_dir`` is relative to the project; models to the working directory or, if there is nothing, to the project.
    From the project's root all stay as they were written.
    """
    if Path.cwd() == project:
        return dict(parameters)

    def resolve(place: str) -> str:
        return str(project / place) if not Path(place).exists() and (project / place).exists() else place

    model, benchmark = dict(parameters["model"]), dict(parameters["benchmark"] or {})
    model |= {key: resolve(model[key]) for key in ("source", "init_from") if model.get(key)}
    benchmark["models"] = [resolve(name) for name in benchmark.get("models") or []]
    data_dir = str(project / parameters["data_dir"])
    return dict(parameters) | {"data_dir": data_dir, "model": model, "benchmark": benchmark}


def default_run_name(source: str) -> str:
    """Return the name of a run of the model at ``source``: its folder, file or gist id.

    Example:
        >>> default_run_name("data/01_raw/exports/gpt")
        'gpt'
    """
    name = PurePath(source.rstrip("/")).name.removesuffix(".zip")
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
    return slug[:100] or "run"
