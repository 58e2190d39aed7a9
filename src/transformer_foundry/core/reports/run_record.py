"""Read the files of a run for its report; files that are missing or damaged are left out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of

__all__ = ["Row", "RunRecord", "default_command", "read_files"]

Row = Mapping[str, Any]


def default_command(pipeline: str) -> str:
    """Return the command that runs a pipeline."""
    return f"kedro run --pipelines {pipeline}"


@dataclass(frozen=True)
class RunRecord:
    """All that is known of a run; each part is empty until a pipeline has written it.

    Attributes:
        paths: The folders of the run.
        validation: ``validation_report.json``.
        profile: ``data_profile.json``.
        manifest: ``manifest.json`` of the run.
        metrics: Rows of ``metrics.jsonl``.
        step: Step of the newest checkpoint, from which training continues; None before the first.
        sampled: Rows of ``samples.jsonl``: texts that the model wrote during training.
        evaluation: ``evaluation.json``.
        errors: ``error_analysis.json``.
        samples: ``samples.json``: texts of the trained model.
        trials: Rows of ``trials.csv``, all values text.
        comparison: ``search_comparison.json``.
        models: ``comparison.json``: models side by side.
        best: ``best_parameters.json``.
        package: ``manifest.json`` of the package.
        package_digest: Sha256 of that manifest.
        publications: Releases of this very package on the Hub, as the registry has them.
        origin: What the run's best checkpoint is, or as much as is known: model, data, tokenizer, weights, step.
        outdated: Section -> why a part of it is not shown, and the command that renews it.
        command: Returns the command that runs a pipeline for this run.
        files: Files and folders of the parts by the names of the attributes above, and of ``validation_figure``,
            ``models_table`` and ``tokens``.
    """

    paths: RunPaths
    validation: Row = field(default_factory=dict)
    profile: Row = field(default_factory=dict)
    manifest: Row = field(default_factory=dict)
    metrics: tuple[Row, ...] = ()
    step: int | None = None
    sampled: tuple[Row, ...] = ()
    evaluation: Row = field(default_factory=dict)
    errors: Row = field(default_factory=dict)
    samples: Row = field(default_factory=dict)
    trials: tuple[Row, ...] = ()
    comparison: Row = field(default_factory=dict)
    models: Row = field(default_factory=dict)
    best: Row = field(default_factory=dict)
    package: Row = field(default_factory=dict)
    package_digest: str = ""
    publications: tuple[Row, ...] = ()
    origin: Mapping[str, str | int] = field(default_factory=dict)
    outdated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    command: Callable[[str], str] = default_command
    files: Mapping[str, Path] = field(default_factory=dict)


def usual_files(paths: RunPaths) -> dict[str, Path]:
    """Return where the parts are in the catalog of ``conf/base``, by the keys of ``RunRecord.files``."""
    shared, own = paths.shared_reports, paths.reports
    return {
        "validation": shared / "validation_report.json",
        "validation_figure": shared / "validation.png",
        "profile": shared / "data_profile.json",
        "evaluation": own / "evaluation.json",
        "errors": own / "error_analysis.json",
        "samples": own / "samples.json",
        "comparison": shared / "search_comparison.json",
        "trials": shared / "trials.csv",
        "models": own / "comparison.json",
        "models_table": own / "comparison.csv",
        "best": paths.tuning / "best_parameters.json",
        "tokens": paths.model_input / "tokens",
    }


def read_files(
    paths: RunPaths,
    results: Mapping[str, Row] | None = None,
    command: Callable[[str], str] = default_command,
    *,
    files: Mapping[str, Path] | None = None,
    trials: Sequence[Row] | None = None,
) -> RunRecord:
    """Read what there is of the run with the folders ``paths``, whether it belongs together or not.

    Args:
        paths: The folders.
        results: Results by the names of the attributes of ``RunRecord``; an empty one does not exist. Those without a
            name here are read from their files.
        command: Returns the command that runs a pipeline for this run.
        files: Where the parts are; their usual files by default.
        trials: Rows of the table of trials, if they are not read from a file.
    """
    results = results or {}
    files = usual_files(paths) if files is None else files
    package = _package(paths.package)
    digest = sha256_of(paths.package / MANIFEST_FILE) if package else ""
    return RunRecord(
        paths,
        **{name: results[name] if name in results else _part(files, name) for name in _JSON_PARTS},
        manifest=_json(paths.manifest),
        metrics=_json_lines(paths.metrics),
        step=max(map(step_of, list_checkpoints(paths.run)), default=None),
        sampled=_json_lines(paths.samples),
        trials=tuple(trials) if trials is not None else _csv(files["trials"]) if "trials" in files else (),
        package=package,
        package_digest=digest,
        publications=_publications(paths, digest),
        command=command,
        files=files,
    )


_JSON_PARTS = ("validation", "profile", "evaluation", "errors", "samples", "comparison", "models", "best")


def _part(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    return _json(files[name]) if name in files else {}


def _package(folder: Path) -> dict[str, Any]:
    """Return the manifest of a package, empty if one of its files is damaged: nothing is shown as verified then."""
    from transformer_foundry.core.publishing.package.package import read_package

    manifest = _json(folder / MANIFEST_FILE)
    try:
        if manifest.get("files"):
            read_package(folder)
    except FoundryError:
        return {}
    return manifest


def _publications(paths: RunPaths, package: str) -> tuple[Row, ...]:
    """Return the releases of the package with this digest."""
    from transformer_foundry.core.publishing.registry.registry import Registry

    try:
        versions = Registry(paths.registry).versions()
    except (FoundryError, OSError, ValueError, LookupError):
        return ()
    known = [version for items in versions.values() for version in items if version.package_sha256 == package]
    return tuple(release for version in known for release in version.publications)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    return _object(_read(path))


def _json_lines(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(row for row in map(_object, _read(path).splitlines()) if isinstance(row.get("step"), int))


def _csv(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(csv.DictReader(_read(path).splitlines()))


def _object(content: str) -> dict[str, Any]:
    # A torn line or a file of another program counts as missing.
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
