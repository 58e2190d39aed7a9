"""What was trained, and on what: the verdict on the model, and the data."""

from __future__ import annotations

import base64
from pathlib import Path

from transformer_foundry.core.reports.html import Markup, tag
from transformer_foundry.core.reports.run_record import RunRecord
from transformer_foundry.core.reports.widgets import (
    chip,
    details,
    facts,
    findings_list,
    mapping,
    number,
    section,
    sequence,
    table,
)

__all__ = ["data_section", "verdict_section"]

_LARGEST_PICTURE_BYTES = 1 << 20
_SPLIT_COLUMNS = {
    "documents": "documents",
    "rows": "rows",
    "tokens": "tokens",
    "targets": "targets",
    "bytes_per_token": "bytes per token",
    "fill": "fill",
    "truncated_rows": "rows cut off",
}


def verdict_section(record: RunRecord) -> Markup | None:
    """Return what validation found in the model."""
    report = record.validation
    if not report:
        return None
    findings = sequence(report.get("findings"))
    problems = [item for item in findings if mapping(item).get("severity") in ("error", "warning")]
    is_sound = report.get("status") == "pass"
    label = chip("sound", "good") if is_sound else chip(f"{len(problems)} problems", "bad")
    name, kind = mapping(report.get("model")).get("name", "The model"), report.get("kind") or "kind unknown"
    sentence = tag("p", label, f" {name}, {kind}, checked in {number(report.get('seconds'), 2)} s.")
    picture = _picture(record.paths.shared_reports / "validation.png", "What validation saw of the model")
    return section(
        "verdict", "Verdict on the model", sentence, findings_list(findings), details("Figure of the checks", picture)
    )


def data_section(record: RunRecord) -> Markup | None:
    """Return where the data came from, how they were divided and what is odd about them."""
    profile = record.profile
    if not profile:
        return None
    tokenizer, texts = mapping(profile.get("tokenizer")), mapping(profile.get("texts"))
    told = facts(
        {
            "source": profile.get("source"),
            "task": profile.get("task"),
            "columns": texts.get("columns"),
            "texts": texts.get("documents"),
            "tokenizer": f"{tokenizer.get('algorithm')}, {number(tokenizer.get('vocab_size'))} tokens"
            if tokenizer
            else None,
            "longest row": profile.get("max_length"),
            "unknown tokens": _share(mapping(profile.get("vocabulary")).get("unknown_share")),
        }
    )
    splits = {name: mapping(split) for name, split in mapping(profile.get("splits")).items()}
    columns = [column for column in _SPLIT_COLUMNS if any(column in split for split in splits.values())]
    divided = table(
        ["split", *(_SPLIT_COLUMNS[column] for column in columns)],
        ([name, *(number(split.get(column)) for column in columns)] for name, split in splits.items()),
    )
    return section(
        "data",
        "Data",
        told,
        divided,
        findings_list(sequence(profile.get("findings"))),
        details("Examples of what the model is given", *map(_example, sequence(profile.get("examples")))),
    )


def _example(example: object) -> Markup:
    given, expected = mapping(example).get("input", example), mapping(example).get("expected")
    shown = [tag("pre", str(given), dir="auto")]
    if expected not in (None, given):
        shown += [tag("p", "expected", class_="small"), tag("pre", str(expected), dir="auto")]
    return tag("div", *shown, class_="example")


def _picture(path: Path, description: str) -> Markup | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) > _LARGEST_PICTURE_BYTES:
        return None
    source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return tag("img", src=source, alt=description)


def _share(value: object) -> str | None:
    return f"{value:.2%}" if isinstance(value, int | float) else None
