"""The schema of a study in a SQLite file is code of its author: views, triggers and functions run when it is opened."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from transformer_foundry.core.base.text import one_line

__all__ = ["foreign_part", "open_study"]

LOCK_TIMEOUT_S = 30.0

_KINDS = ("table", "index")
_TOKEN = re.compile(
    r"""(?P<none>--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|\s+)"""
    r"""|"(?P<quoted>(?:[^"]|"")*)"|`(?P<ticked>(?:[^`]|``)*)`|\[(?P<bracketed>[^\]]*)\]|(?P<word>\w+)|(?P<mark>.)""",
    re.DOTALL,
)
_BEFORE_NAMES = frozenset(("table", "references", "on"))
_BEFORE_BRACKETS = frozenset(("varchar", "char", "check", "key", "unique", "in", "and", "or", "not", "numeric"))


@contextlib.contextmanager
def open_study(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[sqlite3.Connection]:
    """Open a database that exists; sqlite3 would make a new one."""
    with contextlib.closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout_s)
    ) as database:
        yield database


def foreign_part(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> str | None:
    """Return what the schema of a study has that no search writes; None if nothing, or if it cannot be read now.

    Optuna makes tables and indexes that call no function. Any other part may read or write without end.
    """
    try:
        with open_study(path, timeout_s) as database:
            parts = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    except sqlite3.Error:  # damaged or locked; what opens it next reports it
        return None
    for kind, name, sql in parts:
        if kind not in _KINDS:
            return f"has the {kind} {one_line(name, 60)}, which no search writes"
        if sql is not None and (called := _called(str(sql))) is not None:
            return f"computes with {one_line(called, 60)} in {one_line(name, 60)}, which no search writes"
    return None


def _called(sql: str) -> str | None:
    """Return the function, generated column or module of the definition of a table; None if it has none."""
    words: list[str] = []
    for found in _TOKEN.finditer(sql):
        if found["none"] is not None:
            continue
        if found["mark"] == "(" and words and words[-1] not in _BEFORE_BRACKETS:
            before = words[-2] if len(words) > 1 else ""
            if words[-1].isidentifier() and before not in _BEFORE_NAMES:
                return words[-1]
        text = next(
            (found[group] for group in ("quoted", "ticked", "bracketed", "word") if found[group] is not None), ""
        )
        words.append(text.lower() if found["mark"] is None else found["mark"])
        if words[-1] == "virtual":
            return "a virtual table"
    return None
