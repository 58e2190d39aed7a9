"""How much memory a parquet or arrow file takes, from the sizes that it declares, before anything is unpacked."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transformer_foundry.core.data.limits import LARGEST_ROW

__all__ = ["ParquetPlan", "batch_sizes", "plan_parquet", "rows_within", "too_large"]

_ANY_SIZE = 2 * LARGEST_ROW
_LARGEST_RATIO = 100  # of what was written by programs: text reaches 4, repeated lines 50
_BATCH_BYTES = 4 * LARGEST_ROW
_FEWEST_ROWS = 64
_LARGE_DICTIONARY = 2**18  # bytes: of lists of strings, one row may repeat a value any number of times
_HEADERS = {"dictionary": 2, "record": 3}  # union MessageHeader of Arrow's Message.fbs


def too_large(stored: int, decoded: int) -> bool:
    """Return whether bytes that belong together unpack to much more than a program would have stored."""
    return decoded > max(_ANY_SIZE, _LARGEST_RATIO * stored)


@dataclass(frozen=True)
class ParquetPlan:
    """How to read a parquet file.

    Attributes:
        rows: Rows of a batch.
        dictionaries: Columns that are read as dictionaries, because their values repeated for each row are too large.
    """

    rows: int
    dictionaries: Sequence[str] = ()


def plan_parquet(file: Any, data: memoryview, names: Sequence[str], most_rows: int) -> ParquetPlan:
    """Return how to read columns of a parquet file.

    Args:
        file: The file as ``pyarrow.parquet.ParquetFile``.
        data: Its bytes.
        names: The columns.
        most_rows: Rows of a batch of usual rows.

    Raises:
        ValueError: If a row group unpacks to too much.
    """
    metadata, wanted = file.metadata, set(names)
    largest: dict[tuple[str, bool], int] = {}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if chunk.path_in_schema.split(".")[0] not in wanted:
                continue
            if too_large(chunk.total_compressed_size, chunk.total_uncompressed_size):
                raise ValueError(
                    f"column {chunk.path_in_schema} has {chunk.total_uncompressed_size / 1e6:,.0f} MB unpacked, in"
                    f" {chunk.total_compressed_size:,} bytes"
                )
            is_list = file.schema.column(place).max_repetition_level > 0
            if is_list and chunk.num_values > _ANY_SIZE // 8 + _LARGEST_RATIO * group.total_byte_size:
                raise ValueError(f"column {chunk.path_in_schema} has {chunk.num_values:,} values in a few bytes")
            if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY":
                size = _dictionary_bytes(data, chunk)
                key = (chunk.path_in_schema, is_list)
                largest[key] = max(largest.get(key, 0), size)
    dictionaries = [
        path
        for (path, is_list), size in largest.items()
        if size > (_LARGE_DICTIONARY if is_list else _BATCH_BYTES // _FEWEST_ROWS)
    ]
    flat = sum(size for (path, _), size in largest.items() if path not in dictionaries)
    return ParquetPlan(max(_FEWEST_ROWS, min(most_rows, _BATCH_BYTES // max(flat, 1))), dictionaries)


def _dictionary_bytes(data: memoryview, chunk: Any) -> int:
    """Return the unpacked size of the page of a dictionary, field 2 of its header (compact protocol of Thrift)."""
    if chunk.dictionary_page_offset is None:
        return int(chunk.total_uncompressed_size)
    place = int(chunk.dictionary_page_offset)
    numbers: list[int] = []
    for mark in (0x15, 0x15):  # a whole number each, one field after the other: the type and the size
        if place >= len(data) or data[place] != mark:
            return int(chunk.total_uncompressed_size)
        value, shift, place = 0, 0, place + 1
        while data[place] & 0x80:
            value, shift, place = value | (data[place] & 0x7F) << shift, shift + 7, place + 1
        value, place = value | data[place] << shift, place + 1
        numbers.append(value >> 1)  # zigzag; sizes are not negative
    return numbers[1]


def rows_within(batch: Any) -> Iterator[tuple[Any, int]]:
    """Yield parts of a record batch whose values take at most 64 MiB each, and their bytes.

    Raises:
        ValueError: If a single row takes more.
    """
    size = sum(map(_expanded_bytes, batch.columns))
    if not batch.num_rows or size <= LARGEST_ROW:
        yield batch, size
        return
    if batch.num_rows == 1:
        raise ValueError(f"a row has more than {LARGEST_ROW / 1e6:.0f} MB")
    half = batch.num_rows // 2
    yield from rows_within(batch.slice(0, half))
    yield from rows_within(batch.slice(half))


def _expanded_bytes(array: Any) -> int:
    """Return the bytes of the values of an array, those of dictionaries and views counted for each use."""
    import pyarrow  # type: ignore[import-untyped]

    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        size = _expanded_bytes(array.dictionary)
        return size if size <= LARGEST_ROW // max(len(array), 1) else _used_bytes(array)
    if pyarrow.types.is_struct(kind):
        return sum(map(_expanded_bytes, array.flatten()))
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind):
        return 8 * len(array) + _expanded_bytes(array.flatten())
    if pyarrow.types.is_string_view(kind) or pyarrow.types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1], "<i4")[::4]
        return int(views[array.offset : array.offset + len(array)].sum(dtype=np.int64))
    return int(array.nbytes)


def _used_bytes(array: Any) -> int:
    import pyarrow.compute  # type: ignore[import-untyped]

    lengths = pyarrow.compute.binary_length(array.dictionary).take(array.indices)
    return int(pyarrow.compute.sum(pyarrow.compute.cast(lengths, "int64")).as_py() or 0)


def batch_sizes(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the bytes of each batch of an arrow file or stream, as stored and as declared to be unpacked.

    See Message.fbs and File.fbs of Arrow. Damaged structures end the iteration: the reader refuses them.
    """
    try:
        for place in _messages(data):
            yield _sizes(data, *place)
    except (struct.error, IndexError, ValueError):
        return


def _messages(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield where the metadata and the body of each message begin."""
    if bytes(data[:6]) != b"ARROW1":
        place = 0
        while place + 8 <= len(data):
            size = _int(data, place, "<i")
            start = place + 4
            if size == -1:
                size, start = _int(data, place + 4, "<i"), place + 8
            if size <= 0:
                return
            yield start, start + size
            place = start + size + _field(data, _table(data, start), 3, "<q")
        return
    footer = len(data) - 10 - _int(data, len(data) - 10, "<i")
    root = _table(data, footer)
    for slot in (2, 3):  # dictionaries and record batches
        vector = _child(data, root, slot)
        for number in range(_int(data, vector, "<I") if vector else 0):
            block = vector + 4 + 24 * number
            offset, size = _int(data, block, "<q"), _int(data, block + 8, "<i")
            yield offset + (8 if _int(data, offset, "<i") == -1 else 4), offset + size


def _sizes(data: memoryview, metadata: int, body: int) -> tuple[int, int]:
    message = _table(data, metadata)
    kind, batch = _field(data, message, 1, "<B"), _child(data, message, 2)
    if kind == _HEADERS["dictionary"]:
        batch = _child(data, batch, 1)
    if kind not in _HEADERS.values() or not batch:
        return 0, 0
    stored = decoded = 0
    is_compressed, vector = bool(_child(data, batch, 3)), _child(data, batch, 2)
    for number in range(_int(data, vector, "<I") if vector else 0):
        offset, size = struct.unpack_from("<qq", data, vector + 4 + 16 * number)
        stored += size
        declared = _int(data, body + offset, "<q") if is_compressed and size else -1
        decoded += size if declared < 0 else declared
    return stored, decoded


def _int(data: memoryview, place: int, form: str) -> int:
    if place < 0:
        raise ValueError(place)
    return int(struct.unpack_from(form, data, place)[0])


def _table(data: memoryview, place: int) -> int:
    """Return where the table begins to which the offset at ``place`` leads."""
    return place + _int(data, place, "<I")


def _slot(data: memoryview, table: int, number: int) -> int:
    """Return where field ``number`` of a table begins; 0 if it is left out."""
    vtable = table - _int(data, table, "<i")
    place = 4 + 2 * number
    offset = _int(data, vtable + place, "<H") if place < _int(data, vtable, "<H") else 0
    return table + offset if offset else 0


def _field(data: memoryview, table: int, number: int, form: str) -> int:
    place = _slot(data, table, number)
    return _int(data, place, form) if place else 0


def _child(data: memoryview, table: int, number: int) -> int:
    place = _slot(data, table, number)
    return _table(data, place) if place else 0
