"""Read the files of a run for its report; files that are missing or damaged are left out."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.run_paths import RunPaths

__all__ = ["Row", "RunRecord", "read_run"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """All that is known of a run; each part is empty until a pipeline has written it.

    Attributes:
        paths: The folders of the run.
        validation: ``validation_report.json``.
        profile: ``data_profile.json``.
        manifest: ``manifest.json`` of the run.
        metrics: Rows of ``metrics.jsonl``.
        sampled: Rows of ``samples.jsonl``: texts that the model wrote during training.
        evaluation: ``evaluation.json``.
        errors: ``error_analysis.json``.
        samples: ``samples.json``: texts of the trained model.
        trials: Rows of ``trials.csv``, all values text.
        comparison: ``search_comparison.json``.
        models: ``comparison.json``: models side by side.
        best: ``best_parameters.json``.
        package: ``manifest.json`` of the package.
        publication: ``hub_publication.json``.
    """

    paths: RunPaths
    validation: Row = field(default_factory=dict)
    profile: Row = field(default_factory=dict)
    manifest: Row = field(default_factory=dict)
    metrics: tuple[Row, ...] = ()
    sampled: tuple[Row, ...] = ()
    evaluation: Row = field(default_factory=dict)
    errors: Row = field(default_factory=dict)
    samples: Row = field(default_factory=dict)
    trials: tuple[Row, ...] = ()
    comparison: Row = field(default_factory=dict)
    models: Row = field(default_factory=dict)
    best: Row = field(default_factory=dict)
    package: Row = field(default_factory=dict)
    publication: Row = field(default_factory=dict)


def read_run(paths: RunPaths) -> RunRecord:
    """Read all that is on disk of the run with the folders ``paths``."""
    shared, own = paths.shared_reports, paths.reports
    return RunRecord(
        paths,
        validation=_json(shared / "validation_report.json"),
        profile=_json(shared / "data_profile.json"),
        manifest=_json(paths.manifest),
        metrics=_json_lines(paths.metrics),
        sampled=_json_lines(paths.samples),
        evaluation=_json(own / "evaluation.json"),
        errors=_json(own / "error_analysis.json"),
        samples=_json(own / "samples.json"),
        trials=_csv(shared / "trials.csv"),
        comparison=_json(shared / "search_comparison.json"),
        models=_json(own / "comparison.json"),
        best=_json(paths.tuning / "best_parameters.json"),
        package=_json(paths.package / MANIFEST_FILE),
        publication=_json(own / "hub_publication.json"),
    )


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
