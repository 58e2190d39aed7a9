"""Zip files of unknown origin: what reading one may cost is bounded before it is read."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import IO

__all__ = ["BoundedReader", "open_zip"]

# Decompressing the other methods (bz2, lzma) cannot be bounded: one call unpacked 4 GB of a file of 1.9 kB.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END, _ZIP64 = b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _LONGEST_COMMENT = 22, 2**16
_ENTRY_BYTES = 46


def open_zip(path: Path, most_members: int) -> zipfile.ZipFile:
    """Open a zip file whose members are stored or deflated.

    Args:
        path: The file.
        most_members: Largest number of members; the list of members is not read if it is longer.

    Raises:
        zipfile.BadZipFile: If it is damaged, has more members, or members that are compressed otherwise.
        OSError: If it cannot be read.
    """
    # The names take space too: allow 210 bytes each.
    if _directory_bytes(path) > most_members * (_ENTRY_BYTES + 210):
        raise zipfile.BadZipFile(f"it has more than {most_members:,} members, or very long names")
    archive = zipfile.ZipFile(path)
    try:
        members = archive.infolist()
        if len(members) > most_members:
            raise zipfile.BadZipFile(f"it has {len(members):,} members, but at most {most_members:,} are allowed")
        other = next((item for item in members if item.compress_type not in _METHODS), None)
        if other is not None:
            raise zipfile.BadZipFile(
                f"its member {other.filename[:100]!r} is compressed with method {other.compress_type}, not with deflate"
            )
    except zipfile.BadZipFile:
        archive.close()
        raise
    return archive


def _directory_bytes(path: Path) -> int:
    """Return the size of the list of members, the largest that any record at the end of the file states."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _LONGEST_COMMENT - _END_BYTES), os.SEEK_SET)
        tail = file.read()
    if _ZIP64 in tail:
        raise zipfile.BadZipFile("it has the 64-bit format for archives above 4 GB")
    found, place = 0, tail.find(_END)
    while place >= 0:
        if len(tail) - place >= _END_BYTES:
            found = max(found, struct.unpack_from("<L", tail, place + 12)[0])
        place = tail.find(_END, place + 1)
    return found


class BoundedReader:
    """A binary stream that raises once more than ``most_bytes`` were read since the last ``restart``.

    Args:
        file: The stream.
        most_bytes: Largest number of bytes.
        most_tags: Largest number of ``<`` in them: a parser of XML makes an object of a few bytes.
    """

    def __init__(self, file: IO[bytes] | BoundedReader, most_bytes: int, most_tags: int | None = None) -> None:
        self._file = file
        self._most_bytes = self._left = most_bytes
        self._most_tags = self._tags_left = most_tags

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes.

        Raises:
            ValueError: If it is too much.
        """
        data = self._file.read(self._left + 1 if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"a part of it has more than {self._most_bytes // 2**20} MiB unpacked")
        if self._tags_left is not None:
            self._tags_left -= data.count(b"<")
            if self._tags_left < 0:
                raise ValueError(f"a part of it has more than {self._most_tags:,} tags")
        return data

    def restart(self) -> None:
        """Count from zero again."""
        self._left, self._tags_left = self._most_bytes, self._most_tags
