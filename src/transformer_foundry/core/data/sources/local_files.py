"""Local data files: the known file types (``BUILDERS``), the split of each file, and whether it is what it claims."""

from __future__ import annotations

import csv
import hashlib
import itertools
import lzma
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.document import SPLIT_NAMES

__all__ = [
    "BINARY_BUILDERS",
    "BUILDERS",
    "builder_of",
    "check_file",
    "digest_files",
    "find_files",
    "find_separator",
    "is_compressed",
    "looks_like_local_path",
    "split_from_name",
]

# File name ending -> the builder of the datasets library that reads it.
BUILDERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
BINARY_BUILDERS = ("parquet", "arrow")
"""Builders of files that are no text: they are not checked for encoding and long lines."""

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_ABOUT_DATA = frozenset(  # files beside the data that are not data
    (
        "readme.md",
        "license.txt",
        "license.md",
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "state.json",
    )
)
_PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 4096
_SEPARATORS = (",", ";", "\t", "|")
_SEPARATED_ROWS = 20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHUNK_BYTES = 2**20
_LONGEST_LINE = 16 * 2**20  # bytes; readers keep several copies of a line in memory
_LARGEST_JSON = 256 * 2**20  # bytes; a .json file is parsed as a whole


def looks_like_local_path(source: str) -> bool:
    """Return whether ``source`` is meant to be a local path and not the name of a dataset on the Hub."""
    path = Path(source).expanduser()
    return (
        path.exists() or source.startswith((".", "/", "~", "\\")) or _ending(path) in BUILDERS or source.count("/") > 1
    )


def find_files(source: str) -> tuple[str, dict[str, list[Path]]]:
    """Return the builder and the files of each split of a local file or folder.

    A word in the path determines the split, such as ``valid`` in ``data/valid-00001.csv``; a single file is train.

    Raises:
        DataError: If there is no such path, or it contains no data files or files of several formats.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"data.source is {source}, but there is no such file or folder.",
            "Expected a path relative to the folder where the command runs, 'built-in', or a Hub name.",
            "Check the spelling of data.source.",
        )
    if path.is_file():
        return builder_of(path), {"train": [path]}
    files = [entry for entry in sorted(path.rglob("*")) if entry.is_file() and _ending(entry) in BUILDERS]
    files = [entry for entry in files if not any(part.startswith(".") for part in entry.relative_to(path).parts)]
    files = [entry for entry in files if entry.name.lower() not in _ABOUT_DATA] or files
    builders = sorted({builder_of(entry) for entry in files})
    if len(builders) != 1:
        raise DataError(
            f"The folder {path} contains {'no data files' if not files else 'files for ' + ' and '.join(builders)}.",
            f"Expected files of one format among {', '.join(sorted(BUILDERS))}.",
            "Set data.source to one file, or to a folder with files of one format.",
        )
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for entry in files:
        groups[split_from_name(str(entry.relative_to(path))) or "train"].append(entry)
    if "train" not in groups:
        return builders[0], {"train": files}
    return builders[0], {name: groups[name] for name in SPLIT_NAMES if name in groups}


def builder_of(path: Path) -> str:
    """Return the name of the builder that reads ``path``.

    Raises:
        DataError: If the ending of its name is unknown.
    """
    ending = _ending(path)
    if ending not in BUILDERS:
        raise DataError(
            f"The name of {path} ends in '{ending}', which is not a known format.",
            f"Expected one of {', '.join(sorted(BUILDERS))}, also compressed ({', '.join(_COMPRESSED)}).",
            "Rename the file so that its ending is its format.",
        )
    return BUILDERS[ending]


def is_compressed(path: Path) -> bool:
    """Return whether the name of the file ends like that of a compressed file."""
    return path.suffix.lower() in _COMPRESSED


def find_separator(source: str | Path) -> str:
    """Return the separator of the fields of a csv file or URL.

    In many countries, spreadsheets write semicolons. The separator is the first of comma, semicolon, tab and bar with
    which the first rows all have the same number of fields, more than one; else the comma.
    """
    import fsspec  # type: ignore[import-untyped]

    if ".tsv" in (suffix.lower() for suffix in Path(str(source).split("?", 1)[0]).suffixes):
        return "\t"
    for separator in _SEPARATORS:
        text = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
        try:
            with fsspec.open(str(source), "rt", compression="infer", **text) as file:
                rows = itertools.islice(csv.reader(file, delimiter=separator), _SEPARATED_ROWS)
                widths = {len(row) for row in rows if row}
        except (OSError, EOFError, ValueError, csv.Error, zlib.error, lzma.LZMAError):
            break  # reading the file reports the error
        if len(widths) == 1 and max(widths) > 1:
            return separator
    return ","


def split_from_name(name: str) -> str | None:
    """Return the split that the name of a file or of a split contains, if any.

    Example:
        >>> split_from_name("data/dev-00001.csv"), split_from_name("unsupervised")
        ('validation', None)
    """
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((split for split, known in _SPLIT_WORDS.items() if words.intersection(known)), None)


def check_file(path: Path, builder: str) -> None:
    """Raise an error for a file that is clearly not of its format, or whose lines would not fit into memory.

    Raises:
        DataError: If it is empty, a web page, binary instead of text, a truncated parquet file, or has a too long line.
    """
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path} is empty.", "Expected a file with data.", "Download or write it again.")
    if is_compressed(path):
        return
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(max(0, size - len(_PARQUET_MAGIC)))
        tail = file.read()
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise DataError(
            f"{path} is a web page, not data: it begins with {start[:15].decode()!r}.",
            f"Expected {builder} data.",
            "Download the file itself (the 'raw' or 'download' link), not the page that shows it.",
        )
    if builder not in BINARY_BUILDERS and head.startswith(_UTF16_MARKS):
        raise DataError(
            f"{path} is written in UTF-16.",
            "Expected text in UTF-8.",
            f"Convert the file: iconv -f utf-16 -t utf-8 {path.name} > converted{path.suffix}",
        )
    if builder not in BINARY_BUILDERS and b"\0" in head:
        raise DataError(
            f"{path} is binary: byte {head.index(0)} is zero.",
            f"Expected {builder} data, text in UTF-8.",
            "Set data.source to another file, or give this one the ending of its format.",
        )
    if builder == "parquet" and not (head.startswith(_PARQUET_MAGIC) and tail == _PARQUET_MAGIC):
        raise DataError(
            f"{path} ({size} bytes) is truncated or not a parquet file: it does not begin and end with PAR1.",
            "Expected a complete parquet file.",
            "Download it again.",
        )
    if builder not in BINARY_BUILDERS:
        _check_lines(path, size)


def _check_lines(path: Path, size: int) -> None:
    if _ending(path) == ".json":
        if size > _LARGEST_JSON:
            raise DataError(
                f"{path} is one JSON document of {size / 1e6:.0f} MB, which must be read as a whole.",
                f"Expected at most {_LARGEST_JSON / 1e6:.0f} MB, or a .jsonl file with one object a line.",
                f"Convert it: jq -c '.[]' {path.name} > {path.stem}.jsonl",
            )
        return
    if size <= _LONGEST_LINE:
        return
    number, length = 1, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            first, _, rest = chunk.partition(b"\n")
            length += len(first)
            if length > _LONGEST_LINE:
                raise DataError(
                    f"{path}, line {number}: it is longer than {_LONGEST_LINE / 1e6:.0f} MB.",
                    "Expected shorter lines: readers keep several copies of a line in memory.",
                    f"Break the line, for example with: fold -s -w 10000 {path.name} > folded{path.suffix}",
                )
            breaks = chunk.count(b"\n")
            number += breaks
            if breaks:
                length = len(rest.rpartition(b"\n")[2])


def digest_files(paths: Iterable[Path]) -> str:
    """Return one sha256 over the names and contents of the files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
