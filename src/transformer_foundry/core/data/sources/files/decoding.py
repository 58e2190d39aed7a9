"""Bytes to text: decompression, the encoding of a file, and lines with an error that names the place."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.limits import LONGEST_LINE
from transformer_foundry.core.data.sources.encodings import likely_encodings

__all__ = ["count_lines", "find_encoding", "open_bytes", "open_text", "read_head", "read_lines"]

_MARK = "\ufeff"  # of the second file of two that were joined
_END_OF_FILE = "\x1a"  # of DOS; only the last line can end in it, as the others end in a line break
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE_SHARE = 0.3  # share of zero bytes at odd or at even places that suggests UTF-16
_BINARY_SHARE = 0.05  # of control characters; random bytes have 0.1
_HEAD_CHARACTERS = 65_536
_LINES_A_RETURN = 10
"""Line feeds to a carriage return alone, from which on it is a character: in joined files it ends lines."""
_FEW_BYTES = 64
_SEPARATOR_CONTROLS = "\t\n\r\f\v\x1b\x01\x1c\x1d\x1e\x1f"  # Hive and others separate with the last ones
_CONTROLS = [char for char in map(chr, range(1, 32)) if char not in _SEPARATOR_CONTROLS]
_EXAMINED_BYTES = 2**18


def open_bytes(path: Path, compression: str | None) -> IO[bytes]:
    """Open a file and decompress it while reading."""
    if compression == "gzip":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if compression == "bz2":
        return cast("IO[bytes]", bz2.open(path, "rb"))
    if compression == "xz":
        return lzma.open(path, "rb")
    if compression == "zstd":
        import pyarrow  # type: ignore[import-untyped]

        return cast("IO[bytes]", io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")))
    return path.open("rb")


def read_head(path: Path, compression: str | None, size: int, shown: str) -> bytes:
    """Return the first ``size`` decompressed bytes.

    Raises:
        DataError: If the compressed data are damaged or end too early.
    """
    try:
        with open_bytes(path, compression) as file:
            return file.read(size)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as err:
        if compression is None:
            raise
        raise damaged_error(shown, compression, err) from err


def damaged_error(shown: str, compression: str, err: BaseException) -> DataError:
    """Return the error for compressed data that cannot be decompressed."""
    return DataError(
        f"{shown} cannot be decompressed ({compression}): {str(err).splitlines()[0] if str(err) else 'damaged'}.",
        "Expected a complete file.",
        "Download or write it again.",
    )


def count_lines(path: Path, compression: str | None) -> int:
    """Return the number of line feeds in a file, and one more for a line without an end."""
    count, last = 0, b"\n"
    with open_bytes(path, compression) as file:
        while chunk := file.read(2**20):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


def find_encoding(head: bytes) -> str | None:
    """Return the encoding of text that begins with ``head``; None if it is no text.

    A byte order mark decides. Without one, it is UTF-16 if every second byte is mostly zero and the decoded characters
    are printable, else UTF-8 if no byte is zero; whether it is valid UTF-8 shows when lines are read.

    Example:
        >>> find_encoding("text".encode("utf-16-be")), find_encoding(bytes(range(64)))
        ('utf-16-be', None)
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" not in head:
        return "utf-8" if _control_share(head.decode("latin-1")) < _BINARY_SHARE else None
    half = max(len(head) // 2, 1)
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        text = head[: half * 2].decode(name, "replace")
        if zeros.count(0) / half > _WIDE_SHARE and _control_share(text) == 0 and not set("\0\ufffd") & set(text):
            return name
    is_text = head.count(0) <= len(head) // 1000 + 1 and _control_share(head.decode("latin-1")) < _BINARY_SHARE / 2
    return "utf-8" if is_text and len(head) > _FEW_BYTES else None


def _control_share(text: str) -> float:
    """Return the share of control characters that no text and no separated table contains."""
    return sum(map(text.count, _CONTROLS)) / max(len(text), 1)


def open_text(path: Path, compression: str | None, encoding: str, *, newline: str | None = "") -> io.TextIOWrapper:
    """Open a file as text; line ends are kept as they are, or become line feeds if ``newline`` is None."""
    if encoding == "utf-8":
        encoding = "utf-8-sig"
    return io.TextIOWrapper(open_bytes(path, compression), encoding=encoding, newline=newline)


def read_lines(
    path: Path,
    compression: str | None,
    encoding: str,
    shown: str,
    *,
    newline: str | None = "",
    longest: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a file with their ends, without a byte order mark before them.

    Args:
        path: The file.
        compression: How it is compressed.
        encoding: The encoding of its text.
        shown: Its name in messages.
        newline: "" keeps the ends of lines, None makes line feeds of them. A carriage return alone ends a line unless
            it is rare in the file: then it is a character, as one line must stay one.
        longest: Longer lines come in pieces of this many characters; None refuses lines of more than 16 Mi.

    Raises:
        DataError: With the number of the line that has bytes of another encoding, a zero byte, or is too long.
    """
    number = 0
    try:
        ends = "\n" if newline is None and _has_line_feeds(path, compression, encoding) else newline
        with open_text(path, compression, encoding, newline=ends) as file:
            readline = file.readline
            while line := readline(longest or LONGEST_LINE):
                number += 1
                if ends == "\n" and line.endswith("\r\n"):
                    line = line[:-2] + "\n"
                if line.endswith(_END_OF_FILE):
                    line = line.removesuffix(_END_OF_FILE)
                    if not line:
                        return
                if longest is None and len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
                    raise DataError(
                        f"{shown}, line {number}: it is longer than {LONGEST_LINE / 1e6:.0f} MB.",
                        "Expected shorter lines: readers keep several copies of a line in memory.",
                        f"Break the line, for example with: fold -s -w 10000 {path.name} > folded{path.suffix}",
                    )
                if line.startswith(_MARK):
                    line = line.lstrip(_MARK)
                    if not line:
                        continue
                if "\0" in line:
                    raise _zero_error(shown, number, line)
                yield line
    except UnicodeDecodeError as err:
        raise encoding_error(path, compression, encoding, shown) from err
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as err:
        if compression is None:
            raise
        raise damaged_error(f"{shown}, after line {number}", compression, err) from err


def _has_line_feeds(path: Path, compression: str | None, encoding: str) -> bool:
    """Return whether lines at the beginning of a file end in line feeds, and returns alone are single characters."""
    with open_text(path, compression, encoding) as file:
        head = file.read(_HEAD_CHARACTERS)
    return head.count("\n") >= _LINES_A_RETURN * (head.count("\r") - head.count("\r\n"))


def encoding_error(path: Path, compression: str | None, encoding: str, shown: str) -> DataError:
    """Return the error that names the first line of a file that is not in its encoding."""
    with open_bytes(path, compression) as file:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            try:
                raw.decode(encoding)
            except UnicodeDecodeError as err:
                if not encoding.startswith("utf-8"):
                    break  # lines of UTF-16 cannot be told apart as bytes
                return _not_utf8_error(f"{shown}, line {number}", raw, err.start, _sample(path, compression, raw))
    return DataError(
        f"{shown} is not written in {encoding}.",
        "Expected text in UTF-8, or the encoding that data.encoding names.",
        "Set data.encoding to the encoding of the file.",
    )


def _sample(path: Path, compression: str | None, line: bytes) -> bytes:
    """Return the line that is not UTF-8 and the start of the file."""
    with open_bytes(path, compression) as file:
        return line + b"\n" + file.read(_EXAMINED_BYTES).rpartition(b"\n")[0]


def _not_utf8_error(place: str, line: bytes, position: int, sample: bytes) -> DataError:
    lines = [item for item in sample.splitlines() if not item.isascii()]
    broken = [item for item in lines if _is_broken(item)]
    names = likely_encodings(b"\n".join(broken))
    piece = line[max(position - 12, 0) : position + 12].strip(b"\r\n")
    reads = f" In {names[0]} it reads {piece.decode(names[0], 'replace')!r}." if names else ""
    problem = f"{place}: byte 0x{line[position]:02x} at position {position + 1} is not UTF-8.{reads}"
    if len(lines) - len(broken) > len(broken):
        return DataError(
            problem,
            "Expected UTF-8, in which the other lines with such characters are written.",
            "Correct or remove the line; data.encoding would misread the others.",
        )
    choice = " or ".join(f"data.encoding={name}" for name in names)
    remedy = "Set data.encoding to the encoding of the file"
    if len(names) == 1:
        remedy += f", which is probably {names[0]}: {choice}."
    else:
        remedy += f", perhaps {choice}; compare the text." if names else "; none of the usual ones reads as text."
    return DataError(problem, "Expected text in UTF-8 or UTF-16.", remedy)


def _is_broken(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _zero_error(shown: str, number: int, line: str) -> DataError:
    return DataError(
        f"{shown}, line {number}: character {line.index(chr(0)) + 1} is a zero byte.",
        "Expected text.",
        "Remove zero bytes, for example with: tr -d '\\000' < FILE > CLEAN",
    )
