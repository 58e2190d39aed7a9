"""The parts of an xlsx file that its sheets share: the list of sheets, texts, and the styles of dates."""

from __future__ import annotations

import datetime
import re
import zipfile
from dataclasses import dataclass
from xml.etree import ElementTree

from transformer_foundry.core.data.limits import LONGEST_LINE
from transformer_foundry.core.files.bounded_zip import BoundedReader

__all__ = ["MOST_TAGS", "Workbook", "read_workbook", "shared_strings", "special_styles", "tag", "text_of", "unescape"]

MOST_TAGS = 2**19
"""Largest number of tags of a row, a string or a list: 16,384 cells with text in pieces."""
_LARGEST_PART = 64 * 2**20  # bytes of a list of sheets, links or styles
_LARGEST_RATIO = 100  # of the list of strings, which Excel writes without repetitions
_DATE_FORMATS = frozenset([*range(14, 23), *range(27, 37), 45, 46, 47, *range(50, 59)])  # numbers of built-in formats
_DATE_CODE = re.compile(r"[ymdhs]", re.IGNORECASE)
_ZEROS = re.compile(r"0{2,}")
_NO_CODE = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')  # quoted text and colors in the code of a format
_DAY_ZERO = (datetime.datetime(1899, 12, 30), datetime.datetime(1904, 1, 1))
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True)
class Workbook:
    """The sheets of a file.

    Attributes:
        sheets: Name -> member of the zip file, in their order; charts are none.
        hidden: Names of those that are hidden.
        active: Name of the one that was shown last; empty if it is no table.
        day_zero: The date that day 0 stands for.
    """

    sheets: dict[str, str]
    hidden: frozenset[str]
    active: str
    day_zero: datetime.datetime

    @property
    def first(self) -> str:
        """The first sheet; if it is hidden, the active or the first visible one."""
        first, *others = self.sheets
        if first in self.hidden and self.active and self.active not in self.hidden:
            return self.active
        return next((name for name in (first, *others) if name not in self.hidden), first)


def read_workbook(archive: zipfile.ZipFile) -> Workbook:
    """Return the sheets of a file.

    Raises:
        ValueError: If it has none.
    """
    book = _parse(archive, "xl/workbook.xml")
    links = _parse(archive, "xl/_rels/workbook.xml.rels")
    targets = {link.get("Id", ""): link.get("Target", "") for link in links}
    sheets, hidden, names = {}, set(), []
    since_1904, active = False, 0
    for element in book.iter():
        if tag(element) == "workbookPr":
            since_1904 = element.get("date1904") in ("1", "true")
        if tag(element) == "workbookView":
            active = int(element.get("activeTab", "0"))
        if tag(element) == "sheet":
            name = element.get("name", "")
            names.append(name)
            link = next((value for key, value in element.items() if key.endswith("}id")), "")
            target = targets.get(link, "")
            if "chartsheets/" in target:
                continue
            sheets[name] = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            if element.get("state", "visible") != "visible":
                hidden.add(name)
    if not sheets:
        raise ValueError("it has no sheets")
    shown = names[active] if 0 <= active < len(names) else ""
    return Workbook(sheets, frozenset(hidden), shown if shown in sheets else "", _DAY_ZERO[since_1904])


def _parse(archive: zipfile.ZipFile, member: str) -> ElementTree.Element:
    with archive.open(member) as file:
        return ElementTree.fromstring(BoundedReader(file, _LARGEST_PART, MOST_TAGS).read())


def shared_strings(archive: zipfile.ZipFile) -> list[str]:
    """Return the texts that cells name by their number."""
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    strings = []
    packed = archive.getinfo("xl/sharedStrings.xml").compress_size
    most = max(_LARGEST_PART, _LARGEST_RATIO * packed)  # all strings are kept in memory
    with archive.open("xl/sharedStrings.xml") as file:
        source = BoundedReader(BoundedReader(file, most, max(MOST_TAGS, packed)), LONGEST_LINE, MOST_TAGS)
        root = None
        for event, element in ElementTree.iterparse(source, events=("start", "end")):
            root = element if root is None else root
            if event == "end" and tag(element) == "si":
                source.restart()
                strings.append(text_of(element))
                root.clear()
    return strings


def special_styles(archive: zipfile.ZipFile) -> tuple[set[int], dict[int, int]]:
    """Return the numbers of the cell styles that show a number as a date, and those that show leading zeros.

    The latter have the count of digits: 00000 shows 1067 as 01067, a code.
    """
    if "xl/styles.xml" not in archive.namelist():
        return set(), {}
    root = _parse(archive, "xl/styles.xml")
    formats = set(_DATE_FORMATS)
    found, digits, padded = set[int](), dict[int, int](), dict[int, int]()
    for element in root.iter():
        code = element.get("formatCode", "")
        if tag(element) == "numFmt" and _ZEROS.fullmatch(code):
            digits[int(element.get("numFmtId", "0"))] = len(code)
        if tag(element) == "numFmt" and _DATE_CODE.search(_NO_CODE.sub("", code)):
            formats.add(int(element.get("numFmtId", "0")))
    for element in root.iter():
        if tag(element) == "cellXfs":
            numbers = [int(style.get("numFmtId", "0")) for style in element]
            found = {place for place, number in enumerate(numbers) if number in formats}
            padded = {place: digits[number] for place, number in enumerate(numbers) if number in digits}
    return found, padded


def text_of(element: ElementTree.Element) -> str:
    """Return the text of a cell in several pieces, without the reading aids of Japanese."""
    pieces = []
    for child in element:
        if tag(child) == "t":
            pieces.append(child.text or "")
        elif tag(child) in ("r", "is"):
            pieces.append(text_of(child))
    return unescape("".join(pieces))


def unescape(text: str) -> str:
    """Replace the escapes of XML in a cell: ``_x000D_`` is a carriage return."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text)


def tag(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]
