"""The report as a page: its head with the key figures, its sections, and how it reaches the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from transformer_foundry.core.reports.html import Markup, tag
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.sections.comparison import models_section
from transformer_foundry.core.reports.sections.data_and_model import data_section, verdict_section
from transformer_foundry.core.reports.sections.errors import errors_section
from transformer_foundry.core.reports.sections.results import (
    links_section,
    parity_section,
    provenance_section,
    tuning_section,
)
from transformer_foundry.core.reports.sections.training import (
    baselines_section,
    cost_section,
    curves_section,
    newest,
    samples_section,
)
from transformer_foundry.core.reports.style import STYLE
from transformer_foundry.core.reports.widgets import chip, mapping, number, sequence

__all__ = ["render_report", "write_report"]

_SECTIONS: dict[str, Callable[[RunRecord], Markup | None]] = {
    "Verdict": verdict_section,
    "Data": data_section,
    "Models": models_section,
    "Curves": curves_section,
    "Results": baselines_section,
    "Errors": errors_section,
    "Samples": samples_section,
    "Memory and speed": cost_section,
    "Tuning": tuning_section,
    "Parity": parity_section,
    "Provenance": provenance_section,
    "Links": links_section,
}
"""Name in the table of contents -> what makes the section; one that returns None is left out."""

# Nothing is fetched and nothing is run, whatever a text in the page says: the second lock beside escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(record: RunRecord) -> Path | None:
    """Write ``report.html`` of a run; a kill leaves the old one or the new one.

    Returns:
        Where it is; None if there is nothing to tell of the run.

    Raises:
        OSError: If it cannot be written.
    """
    page = render_report(record, written_at=datetime.now(UTC))
    if page is None:
        return None
    path = record.paths.report
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may end at the same time; each has a name of its own beside the report.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def render_report(record: RunRecord, *, written_at: datetime) -> str | None:
    """Return the report of a run as one HTML document that needs no other file and no network.

    Args:
        record: What is known of the run; parts that do not exist are left out.
        written_at: The time that the report is said to be of.

    Returns:
        The document; None if nothing is known of the run.
    """
    made = {name: part for name, make in _SECTIONS.items() if (part := make(record)) is not None}
    if not made:
        return None
    title = f"{record.paths.name} · Transformer Foundry"
    contents = tag(
        "nav", *(tag("a", name, href=f"#{_anchor(part)}") for name, part in made.items()), aria_label="Parts"
    )
    footer = tag("footer", f"Written {written_at:%Y-%m-%d %H:%M} UTC from the files of the run.")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    body = tag("body", tag("header", *_heading(record), contents), tag("main", *made.values()), footer)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _heading(record: RunRecord) -> list[Markup | None]:
    model = mapping(record.validation.get("model")).get("name") or mapping(record.package.get("model")).get("name")
    what = " · ".join(str(part) for part in (model, record.validation.get("kind"), record.profile.get("task")) if part)
    return [tag("h1", record.paths.name), tag("p", *_chips(record)), tag("p", what, class_="small"), _tiles(record)]


def _chips(record: RunRecord) -> list[Markup]:
    """Return the state of the run in a few coloured words, each only if it is known."""
    chips = []
    if record.validation:
        is_sound = record.validation.get("status") == "pass"
        chips.append(chip("model sound" if is_sound else "model has problems", "good" if is_sound else "bad"))
    if models := sequence(record.models.get("models")):
        chips.append(chip(f"{len(models)} models compared", "calm"))
    step, planned = newest(record.metrics, "step"), record.manifest.get("total_steps")
    if step is not None:
        is_done = record.manifest.get("result") is not None
        chips.append(chip(f"{'trained' if is_done else 'training'}: step {number(step)} of {number(planned)}",
                          "good" if is_done else "warn"))  # fmt: skip
    comparisons = [mapping(item) for item in sequence(record.evaluation.get("comparisons"))]
    if comparisons:
        beaten = sum(bool(item.get("is_beaten")) for item in comparisons)
        kind = "good" if beaten == len(comparisons) else "warn"
        chips.append(chip(f"{beaten} of {len(comparisons)} baselines beaten", kind))
    formats = [mapping(item) for item in sequence(record.package.get("formats"))]
    if formats:
        verified = sum(item.get("status") == "verified" for item in formats)
        chips.append(chip(f"{verified} of {len(formats)} formats verified", "good" if verified else "bad"))
    if record.publication.get("published"):
        chips.append(chip("published", "good"))
    return [Markup(f"{item} ") for item in chips]


def _tiles(record: RunRecord) -> Markup | None:
    held_out, rows = mapping(record.evaluation.get("validation")), record.metrics
    figures = {
        "validation loss": held_out.get("loss", newest(rows, "eval/loss")),
        "perplexity": held_out.get("perplexity", newest(rows, "eval/perplexity")),
        "accuracy": held_out.get("accuracy", newest(rows, "eval/accuracy")),
        "tokens seen": newest(rows, "train/tokens_seen"),
        "parameters": mapping(record.package.get("model")).get("parameter_count"),
    }
    tiles = [
        tag("div", tag("dt", name), tag("dd", number(value))) for name, value in figures.items() if value is not None
    ]
    return tag("dl", *tiles, class_="tiles") if tiles else None


def _anchor(part: Markup) -> str:
    return part.split('id="', 1)[1].split('"', 1)[0]
