"""Tables in columns: parquet, arrow (file and stream, also Feather)."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import decode_text
from transformer_foundry.core.data.limits import DecodedSize
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated.header import clean_names, find_index_columns
from transformer_foundry.core.data.sources.files.stored.arrow_sizes import (
    batch_sizes,
    plan_parquet,
    rows_within,
    too_large,
)

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

__all__ = ["ArrowTable"]

_BATCH_ROWS = 1000


class ArrowTable:
    """The rows of a parquet or arrow file, read in batches; only the columns in use.

    Args:
        file: The file.
    """

    def __init__(self, file: DataFile) -> None:
        import pyarrow

        self._file = file
        self._errors = (pyarrow.ArrowException, OSError, ValueError, LookupError)
        try:
            schema = self._schema()
            self._require_usual_sizes()
        except self._errors as err:
            raise self._error(err) from err
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise DataError(
                f"{file.shown} has several columns called {short_list(twice)}; it has {short_list(schema.names)}.",
                "Expected a name of its own for each column.",
                "Rename the columns, and write the table again.",
            )
        index = _index_columns(schema)
        stored = [name for name in schema.names if name not in index] or list(schema.names)
        head = self._head(stored)
        dropped = set(find_index_columns(stored, head))
        self._stored = [name for place, name in enumerate(stored) if place not in dropped]
        self._renamed, self.notes = clean_names(self._stored)
        self._selected: Sequence[str] | None = None
        self.label_names = _declared_labels(schema)

    def select(self, names: Sequence[str]) -> None:
        """Read only these columns from now on."""
        self._selected = names

    def without(self, names: Collection[str]) -> ArrowTable:
        """Return the same table, of which these columns are not read."""
        other = copy.copy(self)
        other.select([name for name in self._selected or self._renamed if name not in names])
        return other

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows.

        Raises:
            DataError: If the file is damaged.
        """
        kept = [
            (stored, name)
            for stored, name in zip(self._stored, self._renamed, strict=True)
            if self._selected is None or name in self._selected
        ]
        names = [name for _, name in kept]
        try:
            for batch in self._batches([stored for stored, _ in kept]):
                columns = [_values(batch.column(stored)) for stored, _ in kept]
                for values in zip(*columns, strict=True):
                    yield dict(zip(names, values, strict=True))
        except self._errors as err:
            raise self._error(err) from err

    def line_of(self, number: int) -> None:
        """Return None: rows of a binary file have no lines."""
        del number

    def _schema(self) -> pyarrow.Schema:
        import pyarrow.parquet  # type: ignore[import-untyped]

        if self._file.kind.format == "parquet":
            with pyarrow.parquet.ParquetFile(self._file.path) as file:
                return file.schema_arrow
        with pyarrow.memory_map(str(self._file.path)) as source, self._open_ipc(source) as reader:
            return reader.schema

    def _head(self, names: Sequence[str]) -> list[list[object]]:
        try:
            batch = next(iter(self._batches(names)), None)
        except self._errors as err:
            raise self._error(err) from err
        if batch is None:
            return []
        columns = [
            batch.column(name).slice(0, 100).to_pylist() if _may_number(name) else [None] * min(100, batch.num_rows)
            for name in names
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _batches(self, names: Sequence[str]) -> Iterator[Any]:
        decoded = DecodedSize(self._file.shown, self._file.path.stat().st_size)
        is_parquet = self._file.kind.format == "parquet"
        for batch in self._parquet_batches(names) if is_parquet else self._ipc_batches():
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                for part, size in rows_within(batch.slice(start, _BATCH_ROWS).select(list(names))):
                    decoded.add(size, part.num_rows)
                    yield part

    def _parquet_batches(self, names: Sequence[str]) -> Iterator[Any]:
        import pyarrow.parquet

        with pyarrow.memory_map(str(self._file.path)) as source:
            with pyarrow.parquet.ParquetFile(source) as file:
                plan = plan_parquet(file, memoryview(source.read_buffer()), names, _BATCH_ROWS)
            with pyarrow.parquet.ParquetFile(self._file.path, read_dictionary=list(plan.dictionaries)) as file:
                yield from file.iter_batches(plan.rows, columns=list(names))

    def _ipc_batches(self) -> Iterator[Any]:
        import pyarrow

        with pyarrow.memory_map(str(self._file.path)) as source, self._open_ipc(source) as reader:
            if isinstance(reader, pyarrow.ipc.RecordBatchFileReader):
                yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                yield from reader

    def _require_usual_sizes(self) -> None:
        """Refuse an arrow file that unpacks to much more than its size: a batch can only be read as a whole."""
        import pyarrow

        if self._file.kind.format == "parquet":
            return
        with pyarrow.memory_map(str(self._file.path)) as source:
            for stored, decoded in batch_sizes(memoryview(source.read_buffer())):
                if too_large(stored, decoded):
                    raise ValueError(f"a batch has {decoded / 1e6:,.0f} MB unpacked, in {stored:,} bytes.")

    def _open_ipc(self, source: Any) -> Any:
        import pyarrow.ipc  # type: ignore[import-untyped]

        with self._file.path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"
        return pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)

    def _error(self, err: BaseException) -> DataError:
        text = (str(err).strip() or type(err).__name__).splitlines()[0]
        return DataError(
            f"{self._file.shown} cannot be read: {text}",
            f"Expected {self._file.kind.format} data.",
            "Check the file, or write it again.",
        )


def _values(column: pyarrow.Array) -> list[Any]:
    """Return the cells of a column; Spark and Impala declare text as binary, also within structs and lists."""
    values = column.to_pylist()
    return [decode_text(value) for value in values] if "binary" in str(column.type) else values


def _may_number(name: str) -> bool:
    return not name.strip() or name.lower().startswith("unnamed")


def _index_columns(schema: pyarrow.Schema) -> set[str]:
    """Return the columns that pandas stored as the index of its rows."""
    described = (schema.metadata or {}).get(b"pandas")
    columns = json.loads(described).get("index_columns", []) if described else []
    return {name for name in columns if isinstance(name, str) and name.startswith("__index_level_")}


def _declared_labels(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes that the datasets library stored with the columns."""
    described = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(described).get("info", {}).get("features", {}) if described else {}
    found = {}
    for name, feature in features.items():
        single = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(single, dict) and single.get("_type") == "ClassLabel" and single.get("names"):
            found[name] = tuple(single["names"])
    return found
