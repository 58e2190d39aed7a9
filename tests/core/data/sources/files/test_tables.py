"""Kinds of files, one row each: the content decides how a file is read; what cannot be read is refused."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import re
import sqlite3
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.sources.files.sniff import sniff

TEXTS = sentences(40)
LABELS = ["neg", "pos"] * 20
FRAME = pd.DataFrame({"text": TEXTS, "label": LABELS})
RECORDS = FRAME.to_dict("records")


def separated(separator=",", header=("text", "label"), rows=None, end="\n", first=()):
    rows = list(zip(TEXTS, LABELS, strict=True)) if rows is None else rows
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerows([header, *rows] if header else rows)
    return "".join(f"{line}{end}" for line in first) + text.getvalue()


def packed(name="d/train.csv", content=None, kind="zip"):
    content = (content or separated()).encode()
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, content)
            archive.writestr("__MACOSX/._train.csv", b"\0")
            archive.writestr("README.md", "about")
    else:
        with tarfile.open(fileobj=file, mode=kind) as archive:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def stored(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def spreadsheet(sheets=1, rows=None, *, active=0, hidden=(), merged=(), names=None, filtered=()):
    """A small xlsx file: shared strings, numbers, a date, an empty cell, errors (#N/A), formulas without results (=A1).

    Hidden sheets have only the first row; ``filtered`` are the numbers of hidden rows.
    """
    rows = [("text", "label", "day"), *((text, label, 45000) for text, label in RECORD_PAIRS)] if rows is None else rows
    strings: dict[str, int] = {}
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = ""
        for letter, value in zip("ABCDEFG", row, strict=False):
            if isinstance(value, str) and value.startswith(("#", "=")):
                content = f"<v>{value}</v>" if value[0] == "#" else f"<f>{value[1:]}</f><v/>"
                cells += f'<c r="{letter}{number}" t="{"e" if value[0] == "#" else "n"}">{content}</c>'
            elif isinstance(value, str):
                place = strings.setdefault(value, len(strings))
                cells += f'<c r="{letter}{number}" t="s"><v>{place}</v></c>'
            elif value is not None:
                cells += f'<c r="{letter}{number}" s="{"CG".find(letter) + 1}"><v>{value}</v></c>'
        lines.append(f'<row r="{number}" hidden="{int(number in filtered)}">{cells}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    link = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    shared = "".join(f"<si><t>{text}</t></si>" for text in strings)
    state = {k: "hidden" if k in hidden else "visible" for k in range(1, sheets + 1)}
    book = "".join(
        f'<sheet name="{names[k - 1] if names else f"Sheet{k}"}" state="{state[k]}" r:id="rId{k}"/>' for k in state
    )
    merges = "".join(f'<mergeCell ref="{cells}"/>' for cells in merged)
    links = "".join(f'<Relationship Id="rId{k}" Target="worksheets/sheet{k}.xml"/>' for k in range(1, sheets + 1))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        view = f'<bookViews><workbookView activeTab="{active}"/></bookViews>'
        archive.writestr("xl/workbook.xml", f"<workbook {space} {link}>{view}<sheets>{book}</sheets></workbook>")
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{links}</Relationships>")
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
        style = '<numFmts><numFmt numFmtId="164" formatCode="00000"/></numFmts>'
        style += '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs>'
        archive.writestr("xl/styles.xml", f"<styleSheet {space}>{style}</styleSheet>")
        for number in range(1, sheets + 1):
            content = "".join(lines[:1] if number in hidden else lines)
            sheet = f"<worksheet {space}><sheetData>{content}</sheetData><mergeCells>{merges}</mergeCells></worksheet>"
            archive.writestr(f"xl/worksheets/sheet{number}.xml", sheet)
    return file.getvalue()


RECORD_PAIRS = list(zip(TEXTS, LABELS, strict=True))
TABLE = pa.Table.from_pandas(FRAME, preserve_index=False)


def arrow_stream(file):
    with pa.ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE)


# name of the file -> content; all hold the same 40 texts with their labels
SAME = {
    "comma.csv": separated(),
    "semicolon.csv": separated(";"),
    "tab.csv": separated("\t"),
    "bar.psv": separated("|"),
    "tab_in_a_text.txt": separated("\t"),
    "no_ending": separated("\t"),
    "comma_in_a_text.txt": separated(),
    "crlf.csv": separated(end="\r\n"),
    "old_mac.csv": separated(end="\r"),
    "declared.csv": separated(";", first=["sep=;"], end="\r\n"),
    "comments.csv": separated(first=["# made by hand", "# on a Monday, or so, it seems"]),
    "mark.csv": separated().encode("utf-8-sig"),
    "wide.csv": separated("\t").encode("utf-16"),
    "wide_without_mark.csv": separated().encode("utf-16-le"),
    "blanks_in_names.csv": separated(header=(" text ", "label ")),
    "numbered.csv": separated(header=("", "text", "label"), rows=[(n, *p) for n, p in enumerate(RECORD_PAIRS)]),
    "unnamed.csv": separated(header=("Unnamed: 0", "text", "label"), rows=[(7, *pair) for pair in RECORD_PAIRS]),
    "of_r.csv": separated(rows=[(n, *p) for n, p in enumerate(RECORD_PAIRS, start=1)]),
    "trailing.csv": separated(rows=[(*pair, "") for pair in RECORD_PAIRS]),
    "trailing_in_all.csv": separated(header=("text", "label", ""), rows=[(*pair, "") for pair in RECORD_PAIRS]),
    "spaced.csv": '"text", "label"\n' + "".join(f'"{text}", "{label}"\n' for text, label in RECORD_PAIRS),
    "bars.txt": "text|||label\n" + "".join(f"{text}|||{label}\n" for text, label in RECORD_PAIRS),
    "gzip.csv.gz": gzip.compress(separated().encode()),
    "gzip_without_ending.csv": gzip.compress(separated().encode()),
    "bz2.csv.bz2": bz2.compress(separated().encode()),
    "xz.jsonl.xz": lzma.compress("\n".join(map(json.dumps, RECORDS)).encode()),
    "a.zip": packed(),
    "json_in.zip": packed("x.json", json.dumps(RECORDS)),
    "a.tar": packed(kind="w:"),
    "a.tar.gz": packed(kind="w:gz"),
    "a.tgz": packed(kind="w:gz"),
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "lines.txt": "\n\n".join(map(json.dumps, RECORDS)),
    "lines.json": "\n".join(map(json.dumps, RECORDS)),
    "lines_with_mark.jsonl": "\n".join(map(json.dumps, RECORDS)).encode("utf-8-sig"),
    "list.json": json.dumps(RECORDS),
    "list.jsonl": json.dumps(RECORDS),
    "indented.json": json.dumps(RECORDS, indent=2),
    "wide.json": json.dumps(RECORDS).encode("utf-16"),
    "one_after_another.json": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "field.json": json.dumps({"version": 2, "data": RECORDS}),
    "lists.json": json.dumps({"text": TEXTS, "label": LABELS}),
    **{f"{form}.json": FRAME.to_json(orient=form) for form in ("split", "records", "index", "columns", "table")},
    "a.parquet": stored(FRAME.to_parquet),
    "parquet_without_ending": stored(FRAME.to_parquet),
    "filtered.parquet": stored(FRAME[FRAME.index >= 0].set_index(FRAME.index * 2).to_parquet),
    "a.feather": stored(FRAME.to_feather),
    "stream.arrow": stored(arrow_stream),
    "a.xlsx": spreadsheet(),
    "sheet_without_ending": spreadsheet(),
    "fasttext.txt": "".join(f"__label__{label} {text}\n" for text, label in RECORD_PAIRS),
}  # fmt: skip


def read(path, task="sequence_classification", **options):
    return read_corpus(DataOptions(source=str(path), **options), task)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def documents(corpus):
    return list(corpus.source.documents("train"))


@pytest.mark.parametrize("name", SAME)
def test_the_same_table_is_read_from_every_kind_of_file(tmp_path, name):
    found = documents(read(write(tmp_path / name, SAME[name])))
    assert [(document.text, document.label) for document in found] == RECORD_PAIRS


@pytest.mark.parametrize("table", [None, "reviews"])
def test_a_table_of_a_database_is_read(tmp_path, table):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        FRAME.to_sql("reviews", connection, index=False)
        if table:
            connection.execute("create table other (x)")
    connection.close()
    assert len(documents(read(path, table=table))) == 40


def test_a_database_of_several_tables_wants_a_name(tmp_path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        for name in ("reviews", "users"):
            connection.execute(f"create table {name} (x)")
    connection.close()
    with pytest.raises(DataError, match=r"a.db has 2 tables") as caught:
        read(path)
    assert "reviews, users" in caught.value.expected
    with pytest.raises(DataError, match=r"no table review \(data.table\). Did you mean 'reviews'"):
        read(path, table="review")


def test_dates_and_sheets_of_a_spreadsheet_are_read(tmp_path):
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(sheets=2)), text_column="day", table="Sheet2")
    assert documents(corpus)[0].text == "2023-03-15"
    with pytest.raises(DataError, match="has no sheet Sheet3"):
        read(tmp_path / "a.xlsx", table="Sheet3")


def test_codes_of_a_spreadsheet_keep_the_zeros_that_are_shown(tmp_path):
    rows = [("text", *"bcdef", "code"), *((text, *[None] * 5, 1067 + n % 2) for n, text in enumerate(TEXTS))]
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(rows=rows)), label_column="code")
    assert corpus.label_names == ("01067", "01068")


def test_a_second_table_below_a_gap_of_a_sheet_is_a_warning(tmp_path):
    rows = [("text", "label"), *RECORD_PAIRS, (), ("name", "age"), ("Ann is here", 3), ("Bob is here", 4)]
    (found,) = read(write(tmp_path / "a.xlsx", spreadsheet(rows=rows))).columns.warnings
    assert f"row {len(RECORD_PAIRS) + 3}: after a blank row another table seems to begin (name, age)" in found


def test_messages_about_a_spreadsheet_name_the_sheet_and_its_row(tmp_path):
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(sheets=2)))
    assert "has the sheets Sheet1, Sheet2; Sheet1 is read" in corpus.source.notes[0]
    assert corpus.source.location("train", 1).endswith("a.xlsx, sheet Sheet1, row 3")


@pytest.mark.parametrize("names", [("Train", "Test"), ("data_train", "data_test"), ("trn", "tst")])
def test_sheets_that_are_called_after_splits_are_splits(tmp_path, names):
    source = read(write(tmp_path / "a.xlsx", spreadsheet(2, names=names))).source
    assert source.splits == ("train", "test")
    assert (
        source.notes[0] == f"The names of sheets give the splits: train is sheet {names[0]}, test is sheet {names[1]}."
    )
    assert source.location("test", 1).endswith(f"sheet {names[1]}, row 3")
    assert read(tmp_path / "a.xlsx", table=names[1]).source.splits == ("train",)


def test_sheets_of_the_same_columns_that_are_not_read_are_a_warning(tmp_path):
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(3, names=("Jan", "Feb", "Mar"))))
    (warning,) = corpus.columns.warnings
    assert "only sheet Jan is read; Feb, Mar have the same columns and are not" in warning
    assert read(tmp_path / "a.xlsx", table="Feb").columns.warnings == ()
    assert read(write(tmp_path / "b.xlsx", spreadsheet(2, hidden=(2,)))).columns.warnings == ()


def test_hidden_rows_are_read_and_counted(tmp_path):
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(filtered=(3, 5))))
    assert [(document.text, document.label) for document in documents(corpus)] == RECORD_PAIRS
    assert "2 rows of " in corpus.source.notes[0]
    assert "sheet Sheet1 are hidden, as by a filter, and read too" in corpus.source.notes[0]


@pytest.mark.parametrize(("active", "hidden", "name"), [(1, (1,), 2), (2, (1,), 3), (0, (1, 2), 3), (2, (2,), 1)])
def test_a_hidden_first_sheet_is_not_read(tmp_path, active, hidden, name):
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(3, active=active, hidden=hidden)))
    assert [(document.text, document.label) for document in documents(corpus)] == RECORD_PAIRS
    assert f"Sheet{hidden[0]} (hidden)" in corpus.source.notes[0]
    assert f"; Sheet{name} is read; data.table reads another." in corpus.source.notes[0]


@pytest.mark.parametrize(
    "titles", [[("Survey of 2024",)], [("Survey",), ("made by Ann", "in May")], [(None, "Survey")]]
)
def test_titles_above_the_header_of_a_sheet_are_left_out(tmp_path, titles):
    rows = [*titles, ("text", "label", "day"), *((text, label, 45000) for text, label in RECORD_PAIRS)]
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(rows=rows, merged=["A1:C1"])))
    assert [(document.text, document.label) for document in documents(corpus)] == RECORD_PAIRS
    assert f"{len(titles)} row" in corpus.source.notes[0]
    assert corpus.source.location("train", 1).endswith(f"row {len(titles) + 3}")
    assert not corpus.columns.warnings


def test_cells_beyond_the_header_are_refused_with_the_row_that_is_taken_for_it(tmp_path):
    rows = [("Survey of 2024",), ("text", None, "label"), *((text, 1, label) for text, label in RECORD_PAIRS)]
    with pytest.raises(DataError, match=r"row 2: it has 3 cells, but row 1, taken for the header \(Survey of 2024\),"):
        documents(read(write(tmp_path / "a.xlsx", spreadsheet(rows=rows)), task="causal_lm"))


GAPS = {
    "error": ("#N/A", (), "20 cells of column {0} .* empty \\({1}3 holds #N/A\\): correct"),
    "formula": ("=A1", (), "20 cells of column {0} .* empty \\({1}3 holds a formula without a stored value\\): open"),
    "merged": (
        None,
        [f"{{1}}{row}:{{1}}{row + 1}" for row in range(2, 42, 2)],
        "20 cells .* \\({1}3 is merged into {1}2\\)",
    ),
}


@pytest.mark.parametrize("column", ["text", "label"])
@pytest.mark.parametrize("kind", GAPS)
def test_cells_that_only_look_filled_are_counted_and_named(tmp_path, kind, column):
    value, merged, message = GAPS[kind]
    place = ("text", "label").index(column)
    rows = [list(pair) for pair in RECORD_PAIRS]
    for row in rows[1::2]:
        row[place] = value
    merged = [cells.format(column, "AB"[place]) for cells in merged]
    corpus = read(write(tmp_path / "a.xlsx", spreadsheet(rows=[("text", "label"), *rows], merged=merged)))
    [warning] = corpus.columns.warnings
    message = message.format(column, "AB"[place])
    assert re.search(message, warning)
    if column == "label":
        with pytest.raises(DataError, match=r"row 3 \(B3 .*\): the label .* is missing"):
            documents(corpus)
    else:
        assert [document.text for document in documents(corpus)] == [
            text if at % 2 == 0 else "" for at, text in enumerate(TEXTS)
        ]


def test_texts_of_formulas_without_results_are_refused_with_the_reason(tmp_path):
    rows = [("text", "label"), *(("=A1", label) for label in LABELS)]
    with pytest.raises(DataError) as caught:
        documents(read(write(tmp_path / "a.xlsx", spreadsheet(rows=rows))))
    assert "A2 holds a formula without a stored value" in str(caught.value)


def test_a_refused_sheet_is_named_with_the_others(tmp_path):
    path = write(tmp_path / "book.xlsx", spreadsheet(3, [("key", "meaning"), *zip("abcdef", TEXTS, strict=False)]))
    for options, start in (
        ({}, "Sheet Sheet1 was read; data.table reads another: Sheet2, Sheet3. Set data."),
        ({"table": "Sheet2"}, "Set data."),
    ):
        with pytest.raises(DataError, match="has no column nothing") as caught:
            read_corpus(DataOptions(source=str(path), text_column="nothing", **options), "causal_lm")
        assert caught.value.remedy.startswith(start)


REFUSED = {
    "data.pkl": (pickle.dumps({"a": 1}), "is a pickled Python object. Reading it would run code"),
    "old.pkl": (pickle.dumps({"a": 1}, protocol=0), "is a pickled Python object"),
    "script.py": (b"import datasets\nclass A(datasets.GeneratorBasedBuilder):\n    pass\n", "is a loading script"),
    "page.csv": (b" \n<!DOCTYPE html>\n<html>404</html>", "is a web page"),
    "report.xls": (b"<html><body><table><tr><td>a</td>", "is a web page with the ending of a workbook"),
    "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
    "a.pdf": (b"%PDF-1.4\n\x00", "is a PDF document"),
    "a.xls": (b"\xd0\xcf\x11\xe0" + bytes(600), "is an old Office file"),
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file"),
    "a.png": (b"\x89PNG" + bytes(60), "is a picture"),
    "broken.xlsx": (b"PK\x03\x04" + b"0" * 500, "cannot be read"),
    "word.docx": (packed("word/document.xml"), "is a Word document"),
    "weights.pt": (packed("archive/data.pkl"), "was written by torch.save"),
    "out.zip": (packed("../out.csv"), "whose path leads outside"),
    "nested.zip": (stored(lambda file: zipfile.ZipFile(file, "w").writestr("a.zip", packed())), "damaged|archive in"),
    "cut.csv.gz": (gzip.compress(separated().encode())[:-30], r"cannot be decompressed \(gzip\)"),
    "cut.parquet": (stored(FRAME.to_parquet)[:-40], "is truncated or not a parquet file"),
    "cut.feather": (stored(FRAME.to_feather)[:-40], "cannot be read"),
    "cut.parquet.gz": (gzip.compress(stored(FRAME.to_parquet)), r"is compressed \(gzip\), and parquet in it"),
    "none.zip": (b"PK\x05\x06" + bytes(18), "is an archive without files"),
    "noise.dat": (bytes(range(256)), "is binary and no known format"),
    "zeros.csv": (separated().encode() + b"a\0b,pos\n", "line 42: character 2 is a zero byte"),
    "blank.txt": (b" \n\n", "contains only blanks"),
    "ids.bin": (np.arange(300, dtype="<u2").tobytes(), "holds token ids"),
    "tables.json": (json.dumps({"train": RECORDS, "test": RECORDS}), "holds 2 tables: train, test"),
    "either.json": (json.dumps({"a": {"x": "1", "y": "2"}, "b": {"x": "3", "y": "4"}}), "could be rows or columns"),
    "uneven.json": (json.dumps({"text": TEXTS, "label": LABELS[1:]}), "different lengths: text 40, label 39"),
    "twice.jsonl": ('{"text": "a", "text": "b"}\n', "line 1: not JSON: the name 'text' occurs twice"),
    "python.json": (str(RECORDS), "names in single quotes, as Python writes them"),
    "cut.json": (json.dumps(RECORDS, indent=1)[:-9], "line 160: not JSON"),
    "comma.json": (json.dumps(RECORDS, indent=1)[:-2] + ",\n]", "line 162: not JSON: a comma stands before the last ]"),
    "only_comma.json": ("[,]", "line 1: not JSON"),
    "more.json": (json.dumps(RECORDS) + "x", "something follows the end of the list"),
    "lists.jsonl": ('["a", "b"]\n["c", "d"]\n', "line 1: not an object in braces"),
    "inner_quotes.csv": (
        "text,label\n" + "".join(f'"{text} "so" it is","{label}"\n' for text, label in RECORD_PAIRS),
        "line 2: a quote inside a quoted field is not written twice",
    ),
    "open_quote.csv": (
        "text,label\n"
        + "".join(f"{chr(34)}{text}, so{chr(34) * (at != 30)},{at % 2}\n" for at, text in enumerate(TEXTS)),
        "line 32: a quote is opened that is not closed before line 33",
    ),
    "plain_row.csv": (
        "text,label\n"
        + "".join("{1}{0}, so{1},{2}\n".format(text, '"' * (at != 30), at) for at, text in enumerate(TEXTS)),
        "line 32: Expected 2 fields, saw 3",
    ),
    "ambiguous.csv": ('text,label\n"a,1\nb",2\nc,3\n', "line 2: a quote begins here and ends in a later line"),
    "long_row.csv": (separated(rows=[*RECORD_PAIRS, ("a", "b", "c")]), "line 42: Expected 2 fields, saw 3: 'a,b,c'"),
    "short_row.csv": (separated(rows=[*RECORD_PAIRS, ("a",)]), "line 42: Expected 2 fields, saw 1: 'a'"),
    "footer.tsv": (separated("\t") + "40 rows\n", "line 42: Expected 2 fields, saw 1: '40 rows'"),
    "windows.csv": (separated(rows=[("café", "pos")]).encode("cp1252"), "In cp1252 it reads 'café,pos'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, name):
    content, problem = REFUSED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=problem) as caught:
        _ = read(path).assignment
    assert name in caught.value.problem
    assert caught.value.expected
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 3


def test_an_encoding_can_be_set(tmp_path):
    path = write(tmp_path / "a.csv", separated(rows=[("café", "pos"), ("thé", "neg")]).encode("cp1252"))
    assert [document.text for document in documents(read(path, encoding="cp1252"))] == ["café", "thé"]
    with pytest.raises(DataError, match=r"data.encoding is cp99, which Python does not know"):
        read(path, encoding="cp99")


def test_the_kind_of_a_file_has_its_evidence(tmp_path):
    kind = sniff(write(tmp_path / "a.txt", separated("\t")))
    assert (kind.format, kind.separator, kind.encoding) == ("delimited", "\t", "utf-8")
    assert "separated by '\\t'" in kind.evidence


@pytest.mark.parametrize("value", ["NA", "None", "null", "nan", "N/A", "NULL"])
def test_null_like_labels_are_names_of_classes(tmp_path, value):
    path = write(tmp_path / "a.csv", separated(rows=[(text, [value, "b"][n % 2]) for n, text in enumerate(TEXTS)]))
    assert {document.label for document in documents(read(path))} == {value, "b"}


@pytest.mark.parametrize("texts", [["007", "008", "1"], ["1.0", "2.50", "3"], ["2024-01-01", "2024-02-01", "x"]])
def test_numbers_used_as_text_keep_their_form(tmp_path, texts):
    path = write(tmp_path / "a.csv", separated(rows=[(text, f"c{n}") for n, text in enumerate(texts)]))
    assert [document.text for document in documents(read(path, text_column="text"))] == texts


@pytest.mark.parametrize("separator", ["\t", ","])
def test_stray_quotes_are_text_and_lose_no_row(tmp_path, separator):
    marks = ['"' if number % 20 == 1 else "" for number in range(40)]
    rows = [f"{mark}{text}{separator}{label}\n" for mark, (text, label) in zip(marks, RECORD_PAIRS, strict=True)]
    path = write(tmp_path / "a.tsv", f"text{separator}label\n" + "".join(rows))
    corpus = read(path)
    assert len(documents(corpus)) == 40
    assert documents(corpus)[1].text == f'"{TEXTS[1]}'
    assert "are read as text: line" in corpus.source.notes[0]


@pytest.mark.parametrize(
    ("rows", "has_header"),
    [
        ([("ham", "are you there tonight"), ("spam", "win a prize now"), ("ham", "see you at ten then")] * 5, False),
        (
            [("satz", "klasse"), ("a long sentence here", "x"), ("another long one", "y"), ("and so on it is", "x")],
            True,
        ),
        ([("0", "1467", "good day to you"), ("4", "1468", "a bad day to you"), ("0", "1469", "no day at all")], False),
        ([("id", "satz"), ("1", "a long sentence"), ("2", "another one")], True),
        ([("english", "german")] + [(f"river{n}", f"Fluss{n}") for n in range(9)], True),
        ([(f"river{n}", f"Fluss{n}") for n in range(9)], False),
        (
            [("Go.", "Va !"), ("Run!", "Cours !"), ("Who?", "Qui ?"), ("Wait.", "Attends."), ("Hop.", "Saute.")] * 2,
            False,
        ),
    ],
)
def test_a_header_is_recognized_by_comparison_with_the_other_rows(tmp_path, rows, has_header):
    path = write(tmp_path / "a.csv", separated(header=None, rows=rows))
    corpus = read(path, "causal_lm", text_column=rows[0][-1] if has_header else f"column_{len(rows[0])}")
    assert len(documents(corpus)) == len(rows) - has_header
    assert has_header or "has no header" in corpus.source.notes[0]


@pytest.mark.parametrize("turn", [1, -1])
def test_class_and_text_of_a_table_without_a_header_are_told_apart(tmp_path, turn):
    path = write(tmp_path / "a.csv", separated(header=None, rows=[pair[::turn] for pair in RECORD_PAIRS]))
    assert [(document.text, document.label) for document in documents(read(path))] == RECORD_PAIRS


def test_pairs_without_a_header_are_their_first_two_columns(tmp_path):
    rows = [(f"Go {number}.", f"Va {number} !", f"CC-BY by somebody, number {number}") for number in range(40)]
    corpus = read(write(tmp_path / "fra.txt", separated("\t", None, rows)), "seq2seq_lm")
    assert [(document.text, document.target) for document in documents(corpus)] == [row[:2] for row in rows]
    assert corpus.columns.left_out == ("column_3",)


def test_a_header_in_the_middle_of_joined_files_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", separated() + separated())
    with pytest.raises(DataError, match=r"a.csv, line 42: it repeats the header \(text, label\)"):
        documents(read(path))


@pytest.mark.parametrize("write_list", [json.dumps, str, lambda words: str(np.array(words)).replace("\n", "")])
def test_lists_written_as_text_in_a_cell_are_lists(tmp_path, write_list):
    words = [text.split()[:5] for text in TEXTS]
    rows = [(write_list(found), json.dumps(["O", "B-X"] + ["O"] * (len(found) - 2))) for found in words]
    path = write(tmp_path / "a.csv", separated(header=("tokens", "ner_tags"), rows=rows))
    assert [list(document.words) for document in documents(read(path, "token_classification"))] == words


@pytest.mark.parametrize(
    ("content", "tags"),
    [
        ("-DOCSTART- -X- O\n\na NN O\nb NN B-X\n\nc NN I-X\nd NN O\n\n" * 5, ("O", "B-X")),
        ("a\tO\nb\tB-X\n\nc\tI-X\nd\tO\n" * 5, ("O", "B-X")),
        ("a NOUN\nb VERB\n\nc DET\nd NOUN\n\n" * 10, ("NOUN", "VERB")),
        (
            "# text = a b\n1-2\tab\t_\t_\t_\t_\t_\t_\t_\t_\n1\ta\ta\tNOUN\t_\t_\t0\troot\t_\t_\n"
            "2\tb\tb\tVERB\t_\t_\t1\tdep\t_\t_\n\n" * 5,
            ("NOUN", "VERB"),
        ),
    ],
)
def test_words_and_tags_are_read_from_conll(tmp_path, content, tags):
    first = documents(read(write(tmp_path / "a.txt", content), "token_classification"))[0]
    assert (first.words, first.tags) == (("a", "b"), tags)


def test_a_line_of_conll_without_a_tag_is_refused(tmp_path):
    path = write(tmp_path / "a.conll", "a O\nb B-X\n\n" * 30 + "lonely\n")
    with pytest.raises(DataError, match="line 91: it has 1 column, the first line 2"):
        documents(read(path, "token_classification"))


def test_header_and_names_can_be_set(tmp_path):
    path = write(tmp_path / "a.csv", separated(header=None))
    named = read(path, columns=["text", "label"], header=False)
    assert [(document.text, document.label) for document in documents(named)] == RECORD_PAIRS
    assert len(documents(read(path, "causal_lm", header=True, text_column=TEXTS[0]))) == 39
    with pytest.raises(DataError, match=r"data.columns has 3 names, but .* has 2 columns"):
        read(path, columns=["a", "b", "c"])


def test_a_name_that_occurs_twice_is_said(tmp_path):
    path = write(
        tmp_path / "a.csv", separated(header=("text", "label", "label"), rows=[(*p, "x") for p in RECORD_PAIRS])
    )
    assert read(path).source.notes == ("Two columns are called label: the later one is read as label_2.",)


def test_files_of_one_table_must_have_the_same_columns(tmp_path):
    write(tmp_path / "a.csv", separated())
    write(tmp_path / "b.csv", separated(header=("body", "label")))
    with pytest.raises(DataError, match=r"b.csv has the columns body, label, but .*a.csv has text, label"):
        read(tmp_path)


def test_a_split_with_other_columns_is_refused(tmp_path):
    write(tmp_path / "train.csv", separated())
    write(tmp_path / "valid.csv", separated(header=("body", "label")))
    with pytest.raises(DataError, match=r"The validation split of .* has no column text; it has body, label"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("a.parquet", {"columns": ["a", "b"]}, r"data.columns is set, but the columns of .* \(parquet\) have names"),
        ("comma.csv", {"table": "x"}, "data.table is x, but .* holds only one table"),
        ("lines.jsonl", {"document": "line"}, "data.document is line, but .* is json lines"),
        ("a.parquet", {"document": "file"}, "data.document is file, but .* is parquet"),
    ],
)
def test_an_option_that_a_format_does_not_have_is_refused(tmp_path, name, options, problem):
    with pytest.raises(DataError, match=problem):
        read(write(tmp_path / name, SAME[name]), **options)
