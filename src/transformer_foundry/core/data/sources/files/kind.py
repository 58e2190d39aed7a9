"""What a file is: the format that was recognized and the evidence, and a file with its name in messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataFile", "FileKind"]


@dataclass(frozen=True)
class FileKind:
    """What a file is, found by its content.

    Attributes:
        format: A key of ``formats.FORMATS``.
        evidence: What was seen, in words.
        compression: gzip, bz2, xz, zstd or None.
        encoding: Encoding of a text format; None for a binary one.
        separator: Separator of the fields (delimited).
    """

    format: str
    evidence: str
    compression: str | None = None
    encoding: str | None = None
    separator: str | None = None


@dataclass(frozen=True)
class DataFile:
    """A file to read.

    Attributes:
        path: Where it is.
        shown: Its name in messages: a member of an archive is unpacked to a temporary folder.
        kind: What it is.
        label: Class of its texts, if it is in the folder of a class.
        partner: The file whose lines are the targets of its lines.
        sides: Names of the columns of both.
    """

    path: Path
    shown: str
    kind: FileKind
    label: str | None = None
    partner: DataFile | None = None
    sides: Sequence[str] = ()
