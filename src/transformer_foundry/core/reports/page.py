"""Render the report of a run as one HTML page, and write it to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from transformer_foundry.core.base.text import format_number
from transformer_foundry.core.files.atomic import replace_file
from transformer_foundry.core.reports.rendering import mapping, mappings, render, render_banners, sequence
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.sections.comparison import models_values
from transformer_foundry.core.reports.sections.data_and_model import data_values, verdict_values
from transformer_foundry.core.reports.sections.errors import errors_values
from transformer_foundry.core.reports.sections.results import (
    links_values,
    parity_values,
    provenance_values,
    tuning_values,
)
from transformer_foundry.core.reports.sections.training import (
    baselines_values,
    cost_values,
    curves_values,
    newest,
    samples_values,
)
from transformer_foundry.core.reports.summary import summarize

__all__ = ["mark_outdated", "render_report", "write_report"]

_SECTIONS: Mapping[str, tuple[str, str, Callable[[RunRecord], Mapping[str, Any]]]] = {
    "verdict": ("Verdict", "Verdict on the model", verdict_values),
    "data": ("Data", "Data", data_values),
    "models": ("Models", "Models side by side", models_values),
    "curves": ("Curves", "Curves", curves_values),
    "baselines": ("Results", "Results and baselines", baselines_values),
    "errors": ("Errors", "Where the model errs", errors_values),
    "samples": ("Samples", "Samples", samples_values),
    "cost": ("Memory and speed", "Memory and speed", cost_values),
    "tuning": ("Tuning", "Tuning", tuning_values),
    "parity": ("Parity", "Package and parity", parity_values),
    "provenance": ("Provenance", "Provenance", provenance_values),
    "links": ("Links", "Files and links", links_values),
}
"""Anchor and template -> name in the table of contents, heading, and the values that the template shows."""


_UP_TO_DATE_MARK = "<!-- Nothing has happened since. -->"


@dataclass(frozen=True)
class _Section:
    anchor: str
    label: str
    title: str
    content: Markup


def write_report(record: RunRecord) -> Path | None:
    """Write ``report.html`` of a run; a kill leaves the old report or the new one.

    Returns:
        Its path; None if nothing is known of the run.

    Raises:
        OSError: If it cannot be written.
    """
    page = render_report(record, written_at=datetime.now(UTC))
    if page is None:
        return None
    path = record.paths.report
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes can end at the same time.
    replace_file(path, page, is_shared=True)
    return path


def mark_outdated(path: Path, event: str) -> None:
    """Say in a report, if there is one, that it shows the state before an event.

    Args:
        path: The report.
        event: What has happened, in a few words: "A command began".
    """
    if not path.is_file():
        return
    page, now = path.read_text(encoding="utf-8"), datetime.now(UTC)
    sentence = (
        f"{event} at {now:%Y-%m-%d %H:%M} UTC. This page shows the state before it; "
        "the end of the next command on this run renews it."
    )
    replace_file(path, page.replace(_UP_TO_DATE_MARK, render_banners([sentence]), 1), is_shared=True)


def render_report(record: RunRecord, *, written_at: datetime) -> str | None:
    """Return the report of a run as one HTML document that needs no other file and no network.

    Args:
        record: What is known of the run; sections without content are left out.
        written_at: The time that the report states.

    Returns:
        The document; None if nothing is known of the run.
    """
    sections = []
    for anchor, (label, title, values_of) in _SECTIONS.items():
        content = render(f"sections/{anchor}.html", record=record, **values_of(record)).strip()
        content = render_banners(record.outdated.get(anchor, ())) + content
        if content:
            sections.append(_Section(anchor, label, title, content))
    if not sections:
        return None
    model = mapping(record.validation.get("model")).get("name") or mapping(record.package.get("model")).get("name")
    subtitle = (model, record.validation.get("kind"), record.profile.get("task"))
    return render(
        "report.html",
        name=record.paths.name,
        subtitle=" · ".join(str(part) for part in subtitle if part),
        chips=_chips(record),
        summary=summarize(record),
        tiles=_tiles(record),
        sections=sections,
        up_to_date_mark=Markup(_UP_TO_DATE_MARK),
        written_at=f"{written_at:%Y-%m-%d %H:%M}",
    )


def _chips(record: RunRecord) -> list[tuple[str, str]]:
    """Return the state of the run as (label, color) pairs, each only if it is known."""
    chips = []
    if record.validation:
        is_sound = record.validation.get("status") == "pass"
        chips.append(("model sound", "good") if is_sound else ("model has problems", "bad"))
    if models := sequence(record.models.get("models")):
        chips.append((f"{len(models)} models compared", "calm"))
    # Rows of metrics are rarer than steps, and those after the newest checkpoint are lost if training is killed.
    step = newest(record.metrics, "step") if record.step is None else record.step
    if step is not None:
        is_done = mapping(record.manifest.get("result")).get("step") == step
        planned = format_number(record.manifest.get("total_steps"))
        label = f"{'trained' if is_done else 'training'}: step {format_number(step)} of {planned}"
        chips.append((label, "good" if is_done else "warn"))
    if comparisons := mappings(record.evaluation.get("comparisons")):
        beaten = sum(bool(item.get("is_beaten")) for item in comparisons)
        kind = "good" if beaten == len(comparisons) else "warn"
        chips.append((f"{beaten} of {len(comparisons)} baselines beaten", kind))
    if formats := mappings(record.package.get("formats")):
        verified = sum(item.get("status") == "verified" for item in formats)
        chips.append((f"{verified} of {len(formats)} formats verified", "good" if verified else "bad"))
    chips += [(f"published {release.get('tag')}", "good") for release in record.publications]
    if n_outdated := sum(map(len, record.outdated.values())):
        chips.append((f"{n_outdated} {'part' if n_outdated == 1 else 'parts'} outdated", "warn"))
    return chips


def _tiles(record: RunRecord) -> dict[str, object]:
    """Return the key figures of the run that are known."""
    rows = record.metrics
    measured, step = mapping(record.evaluation.get("validation")), record.evaluation.get("step")
    if not measured:
        evaluated = next((row for row in reversed(rows) if "eval/loss" in row), {})
        measured = {name.removeprefix("eval/"): value for name, value in evaluated.items()}
    when = f" of step {format_number(measured.get('step', step))}"
    figures = {
        f"validation loss{when}": measured.get("loss"),
        f"perplexity{when}": measured.get("perplexity"),
        f"accuracy{when}": measured.get("accuracy"),
        f"micro F1{when}": measured.get("micro_f1"),
        f"root mean squared error{when}": measured.get("rmse"),
        f"Spearman correlation{when}": measured.get("spearman"),
        "tokens seen": newest(rows, "train/tokens_seen"),
        "parameters": mapping(record.package.get("model")).get("parameter_count"),
    }
    return {name: value for name, value in figures.items() if value is not None}
