"""A table or view of an SQLite file: the schema is code of its author, so what evaluating it costs is bounded."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import decode_text
from transformer_foundry.core.data.limits import LARGEST_ROW, DecodedSize
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated.header import clean_names

__all__ = ["SqliteTable"]

ROW_S = 60.0
"""Seconds after which a view has to return its next row."""
_STEPS = 100_000  # of SQLite's machine between two looks at the clock: about a millisecond
_OWN_TABLES = "sqlite_%"
_COMPUTED = 2  # of a generated column that is not stored (pragma table_xinfo)
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
_FUNCTIONS = frozenset(  # those that take time in proportion to what they are given
    (
        *("abs", "avg", "char", "coalesce", "concat", "concat_ws", "count", "cast", "date", "datetime", "glob"),
        *("group_concat", "ifnull", "iif", "json_extract", "->", "->>", "julianday", "length", "like", "lower"),
        *("ltrim", "max", "min", "nullif", "replace", "round", "row_number", "rtrim", "strftime", "string_agg"),
        *("substr", "substring", "sum", "time", "total", "trim", "typeof", "unicode", "unixepoch", "upper"),
    )
)
_ACTIONS = {sqlite3.SQLITE_RECURSIVE: "its view is recursive, perhaps without an end"}
_LONGEST_PATTERN = 1000  # of like and glob


class SqliteTable:
    """The rows of one table of an SQLite file.

    Args:
        file: The file.
        options: ``table`` names the table if there are several.

    Raises:
        DataError: If the table is not named and there are several, or the file is damaged or has a log
            of changes.
    """

    def __init__(self, file: DataFile, options: DataOptions) -> None:
        self._file = file
        self.notes: list[str] = []
        log = file.path.with_name(f"{file.path.name}-wal")
        if log.is_file() and log.stat().st_size:
            raise DataError(
                f"{file.shown} is not complete: its last changes are in {log.name}, which is not read.",
                "Expected a database that every program has closed.",
                f"Close it, or run: sqlite3 {file.path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'",
            )
        query = "select name from sqlite_master where type in ('table', 'view') and name not like ? order by name"
        with _Connection(file) as connection:
            tables = [name for (name,) in connection.run(query, _OWN_TABLES)]
            self._table = self._choose(tables, options.table)
            self._is_stored = self._has_only_stored_rows(connection)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows.

        Raises:
            DataError: If the file is damaged, or a view or a generated column takes too much time or memory.
        """
        quoted = self._table.replace('"', '""')
        decoded = DecodedSize(self._file.shown, self._file.path.stat().st_size)
        with _Connection(self._file) as connection:
            connection.restrict()
            rows = connection.run(f'select * from "{quoted}"')
            names, _ = clean_names(connection.columns)
            for row in rows:
                if not self._is_stored:
                    decoded.add(sum(len(cell) for cell in row if isinstance(cell, (str, bytes))))
                # Programs store text as bytes too, in some rows or in all.
                yield {name: decode_text(cell) for name, cell in zip(names, row, strict=True)}

    def line_of(self, number: int) -> None:
        """Return None: rows of a database have no lines."""
        del number

    def _has_only_stored_rows(self, connection: _Connection) -> bool:
        """Return whether the rows are in the file: those of views and virtual tables are not."""
        [(kind, sql)] = connection.run("select type, sql from sqlite_master where name = ?", self._table)
        if kind == "view":
            return False
        columns = connection.run("select name, hidden from pragma_table_xinfo(?)", self._table)
        computed = [name for name, hidden in columns if hidden == _COMPUTED]
        if computed:
            raise DataError(
                f"{self._file.shown} computes the column {short_list(computed)} when it is read.",
                "Expected columns whose values are in the file.",
                "Write the rows to a table: create table rows as select ...; or declare the column as stored.",
            )
        return not str(sql).lower().startswith("create virtual")

    def _choose(self, tables: list[str], table: str | None) -> str:
        if table in tables:
            return str(table)
        if table is None and len(tables) == 1:
            return tables[0]
        if table is None:
            found = f"has {len(tables)} tables" if tables else "has no table"
            raise DataError(
                f"{self._file.shown} {found}.",
                f"Its tables: {short_list(tables) or 'none'}.",
                "Set data.table to one of them.",
            )
        raise DataError(
            f"{self._file.shown} has no table {table} (data.table).{suggestion(table, tables)}",
            f"Its tables: {short_list(tables) or 'none'}.",
            "Set data.table to one of them.",
        )


class _Connection:
    """A connection that reads only, ends a query without a row for a minute, and answers Ctrl-C while SQLite works."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._since: float | None = None
        self._is_late = False
        self._refused = ""
        self.columns: list[str] = []

    def __enter__(self) -> _Connection:
        address = f"{self._file.path.resolve().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(address, uri=True)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_ROW)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
        self._connection.set_progress_handler(self._look_at_clock, _STEPS)
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def restrict(self) -> None:
        """Allow nothing but to read, without recursion: a view may be an endless loop."""
        self._connection.set_authorizer(self._authorize)

    def run(self, query: str, *values: str) -> Iterator[tuple[Any, ...]]:
        """Start a query and return its rows."""
        self._since = None
        try:
            cursor = self._connection.execute(query, values)
        except (sqlite3.Error, UnicodeError) as err:
            raise self._error(err) from err
        self.columns = [column[0] for column in cursor.description]
        return self._rows(cursor)

    def _rows(self, cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
        try:
            for row in cursor:
                self._since = None
                yield row
        except (sqlite3.Error, UnicodeError) as err:
            raise self._error(err) from err

    def _look_at_clock(self) -> bool:
        now = time.monotonic()
        self._since = self._since or now
        self._is_late = now - self._since > ROW_S
        return self._is_late

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FUNCTIONS):
            return sqlite3.SQLITE_OK
        self._refused = (
            f"its view calls {second}()"
            if action == sqlite3.SQLITE_FUNCTION
            else _ACTIONS.get(action, f"its view does more than read ({first})")
        )
        return sqlite3.SQLITE_DENY

    def _error(self, err: Exception) -> DataError:
        problem = str(err)
        if problem == "interrupted" and not self._is_late:
            # The exception of a signal handler ended the callback, and sqlite3 discards it.
            raise KeyboardInterrupt from err
        if self._is_late:
            problem = f"its next row takes more than {ROW_S:g} s"
        elif self._refused:
            problem = self._refused
        elif "too big" in problem:
            problem = f"a row has more than {LARGEST_ROW / 1e6:.0f} MB"
        elif isinstance(err, UnicodeError):
            problem = "a text is not UTF-8"
        return DataError(
            f"{self._file.shown} cannot be read: {problem}.",
            "Expected an SQLite database with a table of stored rows, or a simple view.",
            "Check the file, or write the rows to a table: create table rows as select ...",
        )
