"""Append to and read files of JSON lines: ``metrics.jsonl`` and ``samples.jsonl`` of a run.

A kill may leave an incomplete last line. Rows after the checkpoint are dropped at a resume.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.files.atomic import write_when_there_is_space
from transformer_foundry.core.files.plain_files import plain_opener, read_plain_text

__all__ = ["append_row", "last_value", "parse_rows", "read_rows", "row_text", "rows_up_to"]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append ``row`` as one line, flushed to the operating system; numbers that are not finite are left out.

    A full disk is waited for, half a minute at most; no part of a line is left.

    Raises:
        OSError: If it cannot be written.
    """
    line = row_text(row).encode()
    write_when_there_is_space(lambda: _append(path, line), path)


def row_text(row: Mapping[str, Any]) -> str:
    """Return the line of ``row``, without secrets and numbers that are not finite.

    JSON has no infinity: a missing perplexity is better than a file that other programs cannot read.
    """
    row = {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}
    return json.dumps(redact_texts(row), ensure_ascii=False) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none if it does not exist; an incomplete last line is left out."""
    return parse_rows(_read_text(path))


def parse_rows(text: str) -> list[dict[str, Any]]:
    """Return the rows of a text; an incomplete last line is left out."""
    return [json.loads(line) for line in _whole_lines(text) if _is_row(line)]


def rows_up_to(path: Path, step: int) -> str:
    """Return the unchanged text of the rows whose ``step`` is at most ``step``."""
    lines = _whole_lines(_read_text(path))
    # Steps ascend, so only the end has to be parsed: a long run has tens of thousands of rows at every checkpoint.
    while lines and not (_is_row(lines[-1]) and json.loads(lines[-1])["step"] <= step):
        lines.pop()
    return "".join(lines)


def last_value(text: str, name: str) -> Any:
    """Return the value of ``name`` in the last row of a text that has one; None without such a row."""
    for line in reversed(_whole_lines(text)):
        if name in line and _is_row(line) and name in (row := json.loads(line)):
            return row[name]
    return None


def _append(path: Path, line: bytes) -> None:
    with open(path, "ab", buffering=0, opener=plain_opener) as file:
        end = file.tell()
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def _read_text(path: Path) -> str:
    return read_plain_text(path, errors="replace") if path.is_file() and not path.is_symlink() else ""


def _whole_lines(text: str) -> list[str]:
    # splitlines would also split at other Unicode line ends, which a sample may contain.
    *whole, _torn = text.split("\n")
    return [line + "\n" for line in whole]


def _is_row(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
