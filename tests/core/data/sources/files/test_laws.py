"""Laws: a table reads back equal or is refused; the texts of a file hold each of its characters once."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions
from transformer_foundry.core.data.sources.files.formats import open_table
from transformer_foundry.core.data.sources.local_files import find_files
from transformer_foundry.core.data.sources.rows import LocalRows

_LAW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_PIECES = [
    '"',
    '""',
    ",",
    ";",
    "\t",
    "|",
    "\n",
    "\r\n",
    " ",
    "a",
    "b c",
    "007",
    "1.50",
    "NA",
    "null",
    "é",
    "#",
    "'",
    "\\",
]
CELLS = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=5).map("".join),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8)
)


def read_rows(path: Path, **options) -> list[list[str]]:
    """Rows of a file as text; None where a cell is empty in a column of numbers."""
    given_options = DataOptions(source=str(path), **options)
    (file,) = find_files(str(path), given_options).splits["train"]
    rows = open_table(file, given_options)
    return [["" if cell is None else str(cell) for cell in row.values()] for row in rows]


@_LAW
@given(
    table=TABLES,
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    is_packed=st.booleans(),
)
@example([["x,1\ny", "2"]], ",", csv.QUOTE_MINIMAL, "\n", "utf-8", False)
@example([["a\nb"], ["c"]], ",", csv.QUOTE_MINIMAL, "\n", "utf-8", False)
@example([["", ""], ["007", "1.50"]], ",", csv.QUOTE_MINIMAL, "\n", "utf-8", False)
def test_what_csv_writes_reads_back_equal_or_is_refused(table, separator, quoting, line_end, encoding, is_packed):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=line_end)
    names = [f"name{place}" for place in range(len(table[0]))]
    writer.writerows([names, *table])
    data = text.getvalue().encode(encoding)
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("a.csv.gz" if is_packed else "a.csv")
        path.write_bytes(gzip.compress(data) if is_packed else data)
        try:
            found = read_rows(path, header=True)
        except DataError:
            return
    assert found == table


@_LAW
@given(table=TABLES)
def test_tables_of_plain_cells_are_never_refused(table):
    table = [["".join(char for char in cell if char.isalnum()) + "x" for cell in row] for row in table]
    names = [f"name{place}" for place in range(len(table[0]))]
    text = "".join(",".join(row) + "\n" for row in [names, *table])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text(text, encoding="utf-8")
        assert read_rows(path, header=True) == table


@_LAW
@given(
    rows=st.lists(st.fixed_dictionaries({"text": CELLS, "n": st.integers() | st.none() | st.booleans()}), min_size=1),
    form=st.sampled_from(["lines", "list", "indented", "columns", "index"]),
)
def test_json_reads_back_equal_in_every_form(rows, form):
    written = {
        "lines": "\n".join(map(json.dumps, rows)),
        "list": json.dumps(rows),
        "indented": json.dumps(rows, indent=1, ensure_ascii=False),
        "columns": json.dumps({name: [row[name] for row in rows] for name in rows[0]}),
        "index": json.dumps({str(place): row for place, row in enumerate(rows)}),
    }[form]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(written, encoding="utf-8")
        options = DataOptions(source=str(path))
        (file,) = find_files(str(path), options).splits["train"]
        found = list(open_table(file, options))
    assert found == rows or (form == "index" and len(rows) == 1)


TEXTS = st.lists(
    st.sampled_from(
        ["word", " ", "\n", "\n\n", "\t", "ACGT" * 200, "。", ".", "é", "e\u0301", "👩‍👩‍👧", "  indented", "x" * 3000]
    ),
    min_size=1,
    max_size=60,
).map("".join)


@_LAW
@given(
    text=TEXTS,
    document=st.sampled_from(["auto", "line", "paragraph", "section"]),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_the_texts_of_a_file_hold_each_character_once(text, document, encoding):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(text.encode(encoding))
        if not text.strip():
            return
        from transformer_foundry.core.data.sources.files.plain_text import choose_document

        options = DataOptions(source=str(path), document=document)
        files = find_files(str(path), options).splits["train"]
        if files[0].kind.format != "text":
            return
        chosen = choose_document(files)[0] if document == "auto" else document
        texts = [row["text"] for row in LocalRows(files, options, chosen)]
    rest, place = text, 0
    for found in texts:
        start = rest.index(found, place)
        assert not rest[place:start].strip()
        place = start + len(found)
    assert not rest[place:].strip()


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json", "a.dat", "a"])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_in_three_lines(name, data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        options = DataOptions(source=str(path))
        lines = []
        try:
            for files in find_files(str(path), options).splits.values():
                list(LocalRows(files, options, "section"))
        except DataError as err:
            lines = str(err).splitlines()
        assert len(lines) <= 3
        assert sum(map(len, lines)) < 1000
