"""Archives (zip, tar): which format is inside, and their members in a temporary folder."""

from __future__ import annotations

import atexit
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import format_size
from transformer_foundry.core.data.sources.files.decoding import open_bytes
from transformer_foundry.core.files.bounded_zip import open_zip

__all__ = ["unpack", "zip_format"]

_LARGEST = 8 * 2**30  # bytes, unpacked
_MOST_MEMBERS = 20_000
_MOST_FOLDERS = 10_000
_DEEPEST = 32  # folders in folders
_CHUNK_BYTES = 2**20
_LARGEST_HEADER = 2**20  # bytes of a name or of attributes in a tar file
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_JUNK = ("__MACOSX", ".")
_OFFICE = {
    "xl/workbook.xml": "xlsx",
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a presentation",
    "content.xml": "an OpenDocument file",
}
_unpacked: dict[tuple[str, int, int], Path] = {}


def zip_format(path: Path, shown: str) -> tuple[str, str]:
    """Return xlsx or zip, and the evidence.

    Raises:
        DataError: If the file is damaged, or a zip of something that is no data, such as a Word document.
    """
    try:
        with open_zip(path, _MOST_MEMBERS) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as err:
        raise DataError(
            f"{shown} begins like a zip file or spreadsheet but cannot be read ({path.stat().st_size} bytes): {err}.",
            "Expected a complete file whose members are stored or deflated.",
            "Download or write it again.",
        ) from err
    office = next((_OFFICE[name] for name in names if name in _OFFICE), None)
    if office == "xlsx":
        return "xlsx", "a zip file with xl/workbook.xml"
    if office is not None:
        raise DataError(
            f"{shown} is {office}, not data.",
            "Expected a table or text, such as xlsx, csv or txt.",
            "Save the text as .txt, or the table as .csv.",
        )
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise DataError(
            f"{shown} was written by torch.save. Reading it would run code of its author.",
            "Expected data, such as csv, jsonl or parquet.",
            "If you trust it, load it and write its texts as jsonl.",
        )
    return "zip", f"a zip file with {len(names)} members"


def unpack(path: Path, shown: str, format_name: str, compression: str | None) -> Path:
    """Unpack an archive to a temporary folder, which is removed when the process ends; the second time it is reused.

    Args:
        path: The archive.
        shown: Its name in messages.
        format_name: zip or tar.
        compression: Compression of a tar file.

    Raises:
        DataError: If it is damaged, encrypted, too large or its members have paths that lead outside.
    """
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key in _unpacked:
        return _unpacked[key]
    folder = Path(tempfile.mkdtemp(prefix="unpacked-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        members = _zip_members(path) if format_name == "zip" else _tar_members(path, compression)
        _write(members, folder, shown)
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, RuntimeError, NotImplementedError) as err:
        shutil.rmtree(folder, ignore_errors=True)
        reason = "it needs a password" if "password" in str(err) or "encrypted" in str(err) else str(err)
        raise DataError(
            f"{shown} cannot be unpacked: {reason}.", "Expected a complete archive.", "Unpack it yourself and set"
            " data.source to the folder, or download it again.",
        ) from err  # fmt: skip
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _unpacked[key] = folder
    return folder


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with open_zip(path, _MOST_MEMBERS) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as file:
                    yield member.filename, file


def _tar_members(path: Path, compression: str | None) -> Iterator[tuple[str, IO[bytes]]]:
    with (
        open_bytes(path, compression) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_BoundedMember) as archive,
    ):
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file


class _BoundedMember(tarfile.TarInfo):
    """A member whose long name or other headers, which tarfile keeps in memory, are of a usual size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedMember:
        """Return the member that a header describes."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"it has a header of {format_size(member.size)}")
        return member


def _write(members: Iterator[tuple[str, IO[bytes]]], folder: Path, shown: str) -> None:
    left, count = _LARGEST, 0
    folders: set[tuple[str, ...]] = set()
    for name, source in members:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if any(part.startswith(_JUNK) and part not in ("..", ".") for part in parts):
            continue
        if ".." in parts or PurePosixPath(name).is_absolute():
            raise DataError(
                f"{shown} has the member {name!r}, whose path leads outside the archive.",
                "Expected relative paths.",
                "Unpack it yourself and set data.source to the folder.",
            )
        count += 1
        target = folder.joinpath(*parts)
        if target.exists():
            raise DataError(
                f"{shown} has two members of the name {name!r}.",
                "Expected each name once: which of them holds the data is unknown.",
                "Unpack it yourself and set data.source to the folder.",
            )
        if len(parts) <= _DEEPEST:
            folders.update(parts[:depth] for depth in range(1, len(parts)))
        if len(parts) > _DEEPEST or len(folders) > _MOST_FOLDERS:
            raise DataError(
                f"{shown} has more than {_MOST_FOLDERS:,} folders, or more than {_DEEPEST} in each other.",
                "Expected an archive of data: every folder takes room on the disk.",
                "Unpack it yourself and set data.source to the folder.",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0 or count > _MOST_MEMBERS:
                    raise DataError(
                        f"{shown} has more than {_MOST_MEMBERS:,} files or {format_size(_LARGEST)}, unpacked.",
                        "Expected a smaller archive.",
                        "Unpack it yourself and set data.source to the folder.",
                    )
                file.write(chunk)
