"""Values of the sections on the search, the package and its parity, the origin of everything, and its files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.text import format_change, format_number, format_size
from transformer_foundry.core.reports.rendering import mapping, mappings, render_chip, sequence
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import line_chart

__all__ = ["links_values", "parity_values", "provenance_values", "tuning_values"]

_SHOWN_TRIALS = 10
_LINKED = {
    "evaluation": "Evaluation",
    "errors": "Errors of the model",
    "models_table": "Comparison, as a table",
    "validation": "Validation report",
    "profile": "Data profile",
    "trials": "Trials",
}
"""File of a part -> label of its link."""
_TRIAL_COLUMNS = ("number", "state", "loss", "steps", "steps_trained", "seconds")


def tuning_values(record: RunRecord) -> dict[str, Any]:
    """Return the chosen parameters, the chart of losses and the table of the best trials."""
    trials = record.trials
    losses = [(loss, row) for row in trials if row.get("state") == "complete" and (loss := _loss(row)) is not None]
    points = [(float(index), loss) for index, (loss, _) in enumerate(losses)]
    lowest = [(x, min(loss for _, loss in points[: index + 1])) for index, (x, _) in enumerate(points)]
    best = [row for _, row in sorted(losses, key=lambda pair: pair[0])][:_SHOWN_TRIALS]
    parameters = [name for name in trials[0] if name and name not in (*_TRIAL_COLUMNS, "error")] if trials else []
    chosen = {**mapping(record.best.get("parameters")), **mapping(record.best.get("model_overrides"))}
    chart = line_chart("Loss of complete trials", {"trial": points, "lowest so far": lowest}, x_label="trial")
    return {
        "chosen": {name: format_number(value) for name, value in chosen.items()},
        "charts": [chart] if chart else [],
        "n_complete": len(losses),
        "head": ["trial", "loss", "steps", *parameters],
        "rows": [[_rounded(row.get(name)) for name in ("number", "loss", "steps", *parameters)] for row in best],
    }


def parity_values(record: RunRecord) -> dict[str, Any]:
    """Return the formats of the package with their difference from the model, and why some failed."""
    formats = mappings(record.package.get("formats"))
    kinds = {"verified": "good", "failed": "bad"}
    return {
        "rows": [
            [
                entry.get("format", "?"),
                render_chip(status := str(entry.get("status", "unknown")), kinds.get(status, "calm")),
                format_number(entry.get("max_abs_error"), 2),
                _judgement(entry),
                len(sequence(entry.get("shapes"))) or "-",
                format_size(entry.get("size_bytes")),
            ]
            for entry in formats
        ],
        "failures": [
            {"severity": "warning", "message": f"{entry.get('format')}: {entry['reason']}"}
            for entry in formats
            if entry.get("reason")
        ],
    }


def provenance_values(record: RunRecord) -> dict[str, Any]:
    """Return what the run was made with, so that it can be reproduced."""
    manifest = record.manifest
    environment = mapping(manifest.get("environment"))
    return {
        "environment": environment,
        "sessions": sequence(manifest.get("sessions")),
        "seeds": {f"seed of {name}": str(seed) for name, seed in mapping(manifest.get("seeds")).items()},
        "fingerprints": mapping(manifest.get("identity")),
        "versions": {"python": environment.get("python"), **mapping(environment.get("packages"))},
    }


def links_values(record: RunRecord) -> dict[str, Any]:
    """Return label -> address: relative to the report on this machine, and on the Hub."""
    paths = record.paths
    empty = {"errors"} if record.errors.get("examples") == 0 else set()  # of a language model
    places = {
        "Package": paths.package,
        "Model card": paths.package / "README.md",
        "Run: checkpoints and metrics": paths.run,
        "Metrics, one object a line": paths.metrics,
        "Manifest of the run": paths.manifest,
        **{label: record.files[name] for name, label in _LINKED.items() if name in record.files and name not in empty},
    }
    links = {
        f"{release.get('repo_id')} {release.get('tag')} on the Hugging Face Hub": str(release["url"])
        for release in record.publications
        if release.get("url")
    }
    # With "./" in front: a name with a colon would be read as the scheme of an address.
    links |= {
        label: f"./{Path(os.path.relpath(path, paths.reports)).as_posix()}"
        for label, path in places.items()
        if path.exists()
    }
    return {"links": links}


def _judgement(entry: Mapping[str, Any]) -> str:
    """Return what a format was judged by: the tolerance, or its change of the metric."""
    change = entry.get("relative_change")
    if isinstance(change, int | float):
        metric = str(entry.get("judged_by")).partition(" ")[0]
        return f"{metric if metric in ('accuracy', 'rmse') else 'perplexity'} {format_change(change)}"
    return format_number(entry.get("tolerance"), 2)


def _loss(row: Mapping[str, Any]) -> float | None:
    try:
        loss = float(row.get("loss") or "nan")
    except ValueError:
        return None
    return loss if math.isfinite(loss) else None


def _rounded(value: Any) -> str:
    """Return a value of a trial, shortened if it is a number."""
    try:
        return format_number(float(value))
    except (TypeError, ValueError):
        return str(value or "-")
