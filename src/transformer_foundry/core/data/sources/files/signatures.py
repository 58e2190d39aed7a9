"""Formats by their beginning: those of ``FORMATS``, those that are refused with the reason, and texts with markup."""

from __future__ import annotations

import re
from typing import NamedTuple

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.sources.files.formats import FORMATS

__all__ = ["Markup", "compression_of", "is_translation", "is_web_page", "markup_of", "refuse_known", "stored_format"]


class Markup(NamedTuple):
    """What a text with markup is, what of it is no text, and what to do."""

    what: str
    parts: str
    remedy: str = "export its texts"


_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_TAR_MARK, _TAR_OFFSET = b"ustar", 257
_RUNS_CODE = "Reading it would run code of its author."
_REFUSED = (
    (b"FEA1", "a Feather file of version 1", "Write it again: pandas.read_feather(A).to_parquet(B)."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Export the table: pandas.read_hdf(A).to_parquet(B)."),
    (b"\xd0\xcf\x11\xe0", "an old Office file (.xls, .doc)", "Save the table as .xlsx or .csv."),
    (b"%PDF", "a PDF document", "Extract its text to a .txt file first, for example with pdftotext."),
    (b"{\\rtf", "a rich text document", "Save it as plain text."),
    (b"ORC", "an ORC file", "Export the table: pandas.read_orc(A).to_parquet(B)."),
    (b"Obj\x01", "an Avro file", "Export the table as parquet or jsonl."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it and set data.source to the folder."),
    (b"Rar!\x1a\x07", "a rar archive", "Unpack it and set data.source to the folder."),
    (b"\x89PNG", "a picture", "Set data.source to another file."),
    (b"\xff\xd8\xff", "a picture", "Set data.source to another file."),
    (b"GIF8", "a picture", "Set data.source to another file."),
    (b"RIFF", "sound or a picture", "Set data.source to another file."),
    (b"ID3", "sound", "Set data.source to another file."),
    (b"\x7fELF", "a program", "Set data.source to another file."),
    (b"PK\x05\x06", "an archive without files", "Set data.source to another file."),
    (b"GGUF", "weights of a model (GGUF)", "Set data.source to data, and model.source to a model."),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the data",
        "Download the data: git lfs pull, or the 'download' link of the file.",
    ),
)
_WEB_PAGE = (b"<!doctype html", b"<html")
_BEFORE_PAGE = b"\xef\xbb\xbf \t\r\n"
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\((?:dp|lp)\d*\n|c(?:__builtin__|builtins|copy_reg|numpy|pandas)[\w.]*\n")
_SCRIPT = re.compile(rb"class\s+\w+\s*\(\s*(?:datasets\.)?(?:GeneratorBasedBuilder|ArrowBasedBuilder|BeamBasedBuilder)")

_HEADERS = r"(?:[\w-]+: [^\n]*\n(?:[ \t][^\n]*\n)*)"
_MARKUP = (
    (
        # Without a declaration: a tag with attributes, or one within another.
        re.compile(
            r"\s*(?:<!--(?:(?!-->).)*-->\s*)*(?:<\?xml|<!(?i:doctype)\s+(?!(?i:html))|<[A-Za-z][\w.:-]*"
            r"(?:\s+[\w.:-]+\s*=\s*[\"'][^<>]*>|\s*>\s*<[A-Za-z]))",
            re.DOTALL,
        ),
        Markup("XML", "tags"),
    ),
    (re.compile(r"WEBVTT|\s*\d+\s+\d\d:\d\d:\d\d[,.]\d+ -->"), Markup("subtitles", "times")),
    (re.compile(r"\s*\[(?:Script Info|Events|V4\+? Styles)\]\s*\n"), Markup("subtitles", "times and styles")),
    (re.compile(r"(?:#[^\n]*\n|\s)*msg(?:id|ctxt) \""), Markup("a gettext catalogue", "keywords")),
    (re.compile(r"From \S+ [^\n]*\d\d:\d\d:\d\d[^\n]*\r?\n[\w-]+: "), Markup("a mailbox", "headers")),
    (
        re.compile(
            rf"{_HEADERS}{{0,40}}?(?:MIME-Version|Content-Transfer-Encoding|Message-ID|Return-Path|Received): ",
            re.IGNORECASE,
        ),
        Markup("mail", "headers"),
    ),
    (
        re.compile(
            r"(?=.*?(?:\bINSERT\s+INTO\b|-- (?:MySQL|MariaDB) dump|-- PostgreSQL database dump|PRAGMA foreign_keys))"
            r"(?:\s|--[^\n]*\n|/\*(?:(?!\*/).)*\*/;?|#[^\n]*\n)*(?:SET|PRAGMA|BEGIN|CREATE|DROP|INSERT|LOCK|USE)\b",
            re.DOTALL | re.IGNORECASE,
        ),
        Markup("a dump of a database", "commands", "export the table as csv"),
    ),
    (
        re.compile(r"\s*window\.YTD\.[\w.]+\s*=\s*\["),
        Markup("JSON of X (Twitter)", "keys", "remove all before the first [, and name it .json"),
    ),
    (
        re.compile(r"(?:\s*%[^\n]*\n)*\s*@relation", re.IGNORECASE),
        Markup("an ARFF table", "declarations", "write it as csv: in Weka, or with scipy.io.arff.loadarff"),
    ),
    (
        re.compile(r"[^\n|]+(?:\|[^\n|]*)+\n-{2,}(?:\+-{2,})+\s*\n"),
        Markup("a table as psql prints it", "lines", "write it as csv: psql --csv"),
    ),
    (
        re.compile(r"\s*\+-{2,}(?:\+-{2,})*\+\s*\n\|"),
        Markup("a table as MySQL prints it", "lines", "write it with tabs: mysql --batch"),
    ),
    (
        re.compile(r"\s*\|?[^\n|]+\|[^\n]*\n\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)+\|?\s*\n"),
        Markup("a table in Markdown", "bars", "write it as csv"),
    ),
    (
        re.compile(r'"[^"\n]*"(?: "[^"\n]*")+\r?\n"1" (?:"|-?\d|NA\b)'),
        Markup("a table as write.table of R writes it", "quotes", "write it with write.csv"),
    ),
)
_TRANSLATIONS = re.compile(r"\s*(?:<[?!][^>]*>\s*)*<(?:tmx|xliff|TS)[\s>]")  # pairs of texts in XML


def compression_of(head: bytes) -> str | None:
    """Return the compression that ``head`` begins with: gzip, bz2, xz, zstd or None."""
    return next((name for mark, name in _COMPRESSIONS if head.startswith(mark)), None)


def stored_format(head: bytes) -> str | None:
    """Return the binary format of tables or archives that ``head`` begins with, or None."""
    if head[_TAR_OFFSET : _TAR_OFFSET + len(_TAR_MARK)] == _TAR_MARK:
        return "tar"
    return next((name for name, known in FORMATS.items() if head.startswith(known.signatures)), None)


def is_web_page(head: bytes) -> bool:
    """Return whether ``head`` begins like a page of HTML."""
    return head.lstrip(_BEFORE_PAGE).lower().startswith(_WEB_PAGE)


def markup_of(head: str) -> Markup | None:
    """Return what a text with markup is that begins with ``head``; None if it is plain.

    Example:
        >>> markup_of("+----+\\n| id |\\n").what, markup_of("plain | text")
        ('a table as MySQL prints it', None)
    """
    return next((markup for pattern, markup in _MARKUP if pattern.match(head)), None)


def is_translation(head: str) -> bool:
    """Return whether ``head`` begins like texts and their translations in XML (TMX, XLIFF, Qt)."""
    return _TRANSLATIONS.match(head) is not None


def refuse_known(shown: str, head: bytes) -> None:
    """Raise an error if ``head`` begins like something that is known and no data.

    Args:
        shown: Name of the file in messages.
        head: The first bytes, decompressed.

    Raises:
        DataError: Saying what the file is and what to do.
    """
    if _PICKLE.match(head):
        raise DataError(
            f"{shown} is a pickled Python object. {_RUNS_CODE}",
            "Expected data, such as csv, jsonl or parquet.",
            "If you trust it, write it again: pandas.DataFrame(pandas.read_pickle(A)).to_parquet(B).",
        )
    if _SCRIPT.search(head) and not head.lstrip().startswith((b"{", b"[")):
        raise DataError(
            f"{shown} is a loading script of the datasets library, not data. {_RUNS_CODE}",
            "Expected the files that the script reads, or their copy in parquet.",
            "Set data.source to these files, or to the dataset on the Hub with data.revision=refs/convert/parquet.",
        )
    if is_web_page(head) and not shown.lower().endswith((".html", ".htm", ".xhtml")):
        if shown.lower().endswith((".xls", ".xlsx")):
            raise DataError(
                f"{shown} is a web page with the ending of a workbook, as some programs export tables.",
                "Expected a table or text.",
                "Open it in a spreadsheet program and save it as .xlsx or .csv.",
            )
        raise DataError(
            f"{shown} is a web page, not data: it begins with {head.lstrip(_BEFORE_PAGE).lower()[:15].decode()!r}.",
            "Expected a table or text.",
            "Download the file itself (the 'raw' or 'download' link), not the page that shows it.",
        )
    for mark, what, remedy in _REFUSED:
        if head.startswith(mark):
            raise DataError(f"{shown} is {what}.", "Expected a table or text, such as csv, jsonl or parquet.", remedy)
