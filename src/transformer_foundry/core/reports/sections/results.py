"""What came of it: the search, the package and its parity, where everything came from and where it lies."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.reports.html import Markup, link, tag
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.svg_charts import line_chart
from transformer_foundry.core.reports.widgets import (
    chip,
    details,
    facts,
    findings_list,
    mapping,
    number,
    section,
    sequence,
    size,
    table,
)

__all__ = ["links_section", "parity_section", "provenance_section", "tuning_section"]

_SHOWN_TRIALS = 10
_TRIAL_COLUMNS = ("number", "state", "loss", "steps", "steps_trained", "seconds")


def tuning_section(record: RunRecord) -> Markup | None:
    """Return what the search found, and whether it is better than the default."""
    trials = record.trials
    if not trials:
        return None
    losses = [(loss, row) for row in trials if row.get("state") == "complete" and (loss := _loss(row)) is not None]
    points = [(float(index), loss) for index, (loss, _) in enumerate(losses)]
    lowest = [(x, min(loss for _, loss in points[: index + 1])) for index, (x, _) in enumerate(points)]
    ranked = [row for _, row in sorted(losses, key=lambda pair: pair[0])][:_SHOWN_TRIALS]
    parameters = [name for name in trials[0] if name and name not in (*_TRIAL_COLUMNS, "error")]
    best = table(
        ["trial", "loss", "steps", *parameters],
        ([row.get(name) or "-" for name in ("number", "loss", "steps", *parameters)] for row in map(_rounded, ranked)),
    )
    verdict = record.comparison.get("verdict")
    chosen = {**mapping(record.best.get("parameters")), **mapping(record.best.get("model_overrides"))}
    chart = line_chart("Loss of complete trials", {"trial": points, "lowest so far": lowest}, x_label="trial")
    return section(
        "tuning",
        "Tuning",
        tag("p", verdict) if verdict else None,
        facts({name: number(value) for name, value in chosen.items()}),
        tag("div", chart, class_="charts") if chart else None,
        details(f"Trials: {len(trials)} begun, {len(losses)} complete; the best {len(ranked)}", best),
    )


def parity_section(record: RunRecord) -> Markup | None:
    """Return the formats of the package, and how far each is from the model itself."""
    formats = [mapping(entry) for entry in sequence(record.package.get("formats"))]
    rows = [
        [
            entry.get("format", "?"),
            _status(entry),
            number(entry.get("max_abs_error"), 2),
            _judgement(entry),
            len(sequence(entry.get("shapes"))) or "-",
            size(entry.get("size_bytes")),
        ]
        for entry in formats
    ]
    failures = [
        {"severity": "warning", "message": f"{entry.get('format')}: {entry['reason']}"}
        for entry in formats
        if entry.get("reason")
    ]
    return section(
        "parity",
        "Package and parity",
        table(["format", "status", "largest difference", "judged by", "shapes tried", "size"], rows),
        findings_list(failures),
    )


def provenance_section(record: RunRecord) -> Markup | None:
    """Return what the run was made with, so that it can be made again."""
    manifest = record.manifest
    if not manifest:
        return None
    environment, identity = mapping(manifest.get("environment")), mapping(manifest.get("identity"))
    sessions = [mapping(session) for session in sequence(manifest.get("sessions"))]
    versions = {"python": environment.get("python"), **mapping(environment.get("packages"))}
    return section(
        "provenance",
        "Provenance",
        facts(
            {
                "begun": sessions[0].get("started_at") if sessions else None,
                "sessions": len(sessions) or None,
                "git revision": _code(environment.get("git_revision")),
                "platform": environment.get("platform"),
                "command": _code(" ".join(map(str, sequence(environment.get("command"))))),
                **{f"seed of {name}": str(seed) for name, seed in mapping(manifest.get("seeds")).items()},
            }
        ),
        details("Fingerprints (sha256)", facts({name: _code(value) for name, value in identity.items()})),
        details("Versions", facts(versions)),
        *(
            details(f"Parameters: {name}", facts({key: str(value) for key, value in mapping(values).items()}))
            for name, values in mapping(manifest.get("parameters")).items()
        ),
    )


def links_section(record: RunRecord) -> Markup | None:
    """Return where things lie: on this machine as seen from the report, and on the Hub."""
    paths = record.paths
    places = {
        "Package": paths.package,
        "Model card": paths.package / "README.md",
        "Page to try the model (serve the package's folder)": paths.package / "index.html",
        "Run: checkpoints and metrics": paths.run,
        "Metrics, one object a line": paths.metrics,
        "Manifest of the run": paths.manifest,
        "Evaluation": paths.reports / "evaluation.json",
        "Errors of the model": paths.reports / "error_analysis.json",
        "Comparison, as a table": paths.reports / "comparison.csv",
        "Validation report": paths.shared_reports / "validation_report.json",
        "Data profile": paths.shared_reports / "data_profile.json",
        "Trials": paths.shared_reports / "trials.csv",
    }
    rows = [tag("li", _local(record, path, label)) for label, path in places.items() if path.exists()]
    address = record.publication.get("url")
    if isinstance(address, str):
        rows.insert(0, tag("li", link(address, "On the Hugging Face Hub")))
    return section("links", "Files and links", tag("ul", *rows)) if rows else None


def _local(record: RunRecord, path: Path, label: str) -> Markup:
    address = Path(os.path.relpath(path, record.paths.reports)).as_posix()
    # A name with a colon would be read as the scheme of an address.
    return link(f"./{address}", label)


def _code(value: object) -> Markup | None:
    return tag("code", str(value)) if value else None


def _status(entry: Mapping[str, Any]) -> Markup:
    status = str(entry.get("status", "unknown"))
    return chip(status, {"verified": "good", "failed": "bad"}.get(status, "calm"))


def _judgement(entry: Mapping[str, Any]) -> str:
    """Return what a format was judged by: the difference that is allowed, or what it costs in perplexity."""
    change = entry.get("relative_change")
    if isinstance(change, int | float):
        return f"perplexity {change:+.2%}".replace("-0.00%", "+0.00%")
    return number(entry.get("tolerance"), 2)


def _loss(row: Mapping[str, Any]) -> float | None:
    try:
        loss = float(row.get("loss") or "nan")
    except ValueError:
        return None
    return loss if math.isfinite(loss) else None


def _rounded(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a row with numbers shortened for reading."""
    shown = {}
    for name, value in row.items():
        try:
            shown[name] = number(float(value))
        except (TypeError, ValueError):
            shown[name] = str(value or "")
    return shown
