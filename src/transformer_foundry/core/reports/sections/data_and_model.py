"""Values of the sections on the checks of the model and on the data."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.text import format_number
from transformer_foundry.core.files.provenance import Origin, digest_of, origin_of
from transformer_foundry.core.reports.rendering import mapping, mappings, sequence
from transformer_foundry.core.reports.run_record import RunRecord

__all__ = ["data_values", "verdict_values"]

_MAX_PICTURE_BYTES = 1 << 20
_SPLIT_COLUMNS = {
    "documents": "documents",
    "rows": "rows",
    "tokens": "tokens",
    "targets": "targets",
    "bytes_per_token": "bytes per token",
    "fill": "fill",
    "truncated_rows": "rows cut off",
}


def verdict_values(record: RunRecord) -> dict[str, Any]:
    """Return the number of problems that validation found, and its figure."""
    findings = mappings(record.validation.get("findings"))
    return {
        "n_problems": sum(item.get("severity") in ("error", "warning") for item in findings),
        "figure": _picture(record.files.get("validation_figure"), origin_of(record.validation)),
    }


def data_values(record: RunRecord) -> dict[str, Any]:
    """Return the table of the splits and the examples."""
    splits = {name: mapping(split) for name, split in mapping(record.profile.get("splits")).items()}
    columns = [column for column in _SPLIT_COLUMNS if any(column in split for split in splits.values())]
    return {
        "split_head": ["split", *(_SPLIT_COLUMNS[column] for column in columns)],
        "split_rows": [
            [name, *(format_number(split.get(column)) for column in columns)] for name, split in splits.items()
        ],
        "examples": [_example(example) for example in sequence(record.profile.get("examples"))],
    }


def _example(example: object) -> tuple[object, object]:
    """Return the input of an example and its expected output, None if that is the same."""
    given, expected = mapping(example).get("input", example), mapping(example).get("expected")
    return given, None if expected == given else expected


def _picture(path: Path | None, origin: Origin) -> str | None:
    """Return a picture in base64; None if it cannot be read, is of another report or would make the page too large."""
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    is_shown = len(content) <= _MAX_PICTURE_BYTES and digest_of(origin).encode() in content
    return base64.b64encode(content).decode("ascii") if is_shown else None
