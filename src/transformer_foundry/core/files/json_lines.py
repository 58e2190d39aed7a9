"""Append to and read files of JSON lines: ``metrics.jsonl`` and ``samples.jsonl`` of a run.

A kill may leave an incomplete last line. Rows after the checkpoint are dropped at a resume.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["append_row", "read_rows", "rows_up_to"]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append ``row`` as one line, flushed to the operating system; numbers that are not finite are left out.

    JSON has no infinity: a missing perplexity is better than a file that other programs cannot read.
    """
    row = {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none if it does not exist; an incomplete last line is left out."""
    return [json.loads(line) for line in _lines(path)]


def rows_up_to(path: Path, step: int) -> str:
    """Return the unchanged text of the rows whose ``step`` is at most ``step``."""
    lines = _whole_lines(path)
    # Steps ascend, so only the end has to be parsed: a long run has tens of thousands of rows at every checkpoint.
    while lines and not (_is_row(lines[-1]) and json.loads(lines[-1])["step"] <= step):
        lines.pop()
    return "".join(lines)


def _lines(path: Path) -> list[str]:
    return [line for line in _whole_lines(path) if _is_row(line)]


def _whole_lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    # splitlines would also split at other Unicode line ends, which a sample may contain.
    *whole, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line + "\n" for line in whole]


def _is_row(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
