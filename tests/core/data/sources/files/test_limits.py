"""Small files that unpack to much: the limits count what is in memory, not the file on the disk."""

from __future__ import annotations

import gzip
import io
import os
import re
import signal
import sqlite3
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from tests.faults.limits import limited
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import limits, read_corpus
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files import archive
from transformer_foundry.core.data.sources.files.formats import open_table
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.separated import quoting
from transformer_foundry.core.data.sources.files.signatures import markup_of
from transformer_foundry.core.data.sources.files.sniff import sniff
from transformer_foundry.core.data.sources.files.stored import arrow_sizes, sqlite

LINE = b"the quick brown fox jumps over the lazy dog " * 24_000


def read(path: Path, **options: object) -> None:
    for _ in read_corpus(DataOptions(source=str(path), **options), "causal_lm", None).documents("train"):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize(
    ("document", "end", "problem"),
    [("file", b"", "a file of more"), ("line", b"", "longer than"), ("paragraph", b"\n", "a paragraph of more")],
)
def test_a_small_compressed_file_with_a_long_text_is_refused(
    tmp_path: Path, document: str, end: bytes, problem: str
) -> None:
    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(70):
            file.write(LINE + end)
    with pytest.raises(DataError, match=problem), limited(memory_mib=400):
        read(path, document=document)


def test_a_tar_file_with_a_name_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(80):
            file.write(bytes(2**20))
    with pytest.raises(DataError, match="it has a header of 1 GiB"), limited(memory_mib=64):
        read(path)


SHEET = {
    "xl/workbook.xml": '<workbook xmlns:r="r"><sheets><sheet name="a" r:id="1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="1" Target="a.xml"/></Relationships>',
    "xl/a.xml": '<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row></sheetData></worksheet>',
}


@pytest.mark.parametrize(
    ("member", "pattern", "content"),
    [
        ("xl/a.xml", "A1", "ZZZZZZ1"),
        ("xl/a.xml", "<v>1</v>", "<v>x</v>"),
        ("xl/a.xml", '<c r="A1">', '<c r="A1" t="s">'),
        ("xl/a.xml", "<v>1</v>", "<v>" + "9" * 100 * 2**20 + "</v>"),
        ("xl/workbook.xml", "<sheets>", " " * 100 * 2**20 + "<sheets>"),
        ("xl/workbook.xml", "<sheets>", "<a/>" * 2**20 + "<sheets>"),
        ("xl/a.xml", "</c>", "</c>" + "<c/>" * 2**20),
    ],
)
def test_a_hostile_spreadsheet_is_refused(tmp_path: Path, member: str, pattern: str, content: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in SHEET.items():
            archive.writestr(name, re.sub(re.escape(pattern), content, text) if name == member else text)
    (tmp_path / "a.xlsx").write_bytes(packed.getvalue())
    with pytest.raises(DataError, match="cannot be read as a spreadsheet"), limited(memory_mib=300):
        read(tmp_path / "a.xlsx")


def database(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


COUNT = "with recursive c(x) as (select 1 union all select x + 1 from c{})"
TEN = "create table n as select 'a' as text union all select 'b'"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (["create table t(i, text generated always as (printf('%.900000000c', 'x')) virtual)"], "computes the column"),
        ([f"create view t as {COUNT.format('')} select 'a text' as text from c"], "recursive"),
        ([f"create view t as {COUNT.format('')} select 'a text' as text from c where x < 0"], "recursive"),
        (["create view t as select hex(zeroblob(100000000)) as text"], r"calls (hex|zeroblob)\(\)"),
        (["create view t as select load_extension('x') as text"], "cannot be read"),
        ([TEN, f"create view t as select n0.text from {', '.join(f'n n{place}' for place in range(30))}"], "decoded"),
    ],
)
def test_a_schema_that_computes_without_bounds_is_refused(
    tmp_path: Path, schema: list[str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ANY_SIZE", 2**20)
    monkeypatch.setattr(limits, "_LARGEST_RATIO", 100)
    path = database(tmp_path / "a.db", *schema)
    with pytest.raises(DataError, match=problem), limited(memory_mib=300):
        read(path, table="t")


def test_a_query_without_a_row_ends_in_time_or_at_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = ", ".join(f"n n{place}" for place in range(60))
    path = database(tmp_path / "a.db", TEN, f"create view t as select n0.text from {many} where n59.text > 'c'")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), limited(seconds=5):
        read(path, table="t")
    monkeypatch.setattr(sqlite, "ROW_S", 0.2)
    with pytest.raises(DataError, match=r"its next row takes more than 0\.2 s"), limited(seconds=5):
        read(path, table="t")


def test_a_simple_view_is_read(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "create table r(a)", "insert into r values ('One.'), ('Two.')")
    database(path, "create view t as select upper(a) as text, count(*) as c from r where a like '%.' group by a")
    rows = open_table(DataFile(path, "a.db", sniff(path)), DataOptions(source=str(path), table="t"))
    assert [row["text"] for row in rows] == ["ONE.", "TWO."]


def test_rows_that_do_not_fit_into_memory_are_an_error_of_the_data(tmp_path: Path) -> None:
    # Several of them: what earlier tests have freed is memory of this process that has no limit.
    (tmp_path / "a.csv").write_text("text\n" + ("a" * 15 * 2**20 + "\n") * 8)
    with pytest.raises(DataError, match=r"a\.csv does not fit into memory"), limited(memory_mib=24):
        read(tmp_path / "a.csv")


def write_dictionary(path: Path) -> None:
    values = pa.array(["x " * 2**18])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), values)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": column}), path, compression="zstd", store_schema=False)
    else:
        feather.write_feather(pa.table({"text": column}), path, compression="zstd")


def write_long_value(path: Path) -> None:
    table = pa.table({"text": ["x" * 5 * 2**20]})
    if path.suffix == ".parquet":
        pq.write_table(table, path, compression="zstd", use_dictionary=False)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, compression="zstd")
    else:
        with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("write", [write_dictionary, write_long_value])
@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.arrows"])
def test_columns_that_unpack_to_much_more_than_their_file_are_refused(
    tmp_path: Path, write: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ANY_SIZE", 2**24)
    for limit in ("_ANY_SIZE", "LARGEST_ROW", "_BATCH_BYTES"):
        monkeypatch.setattr(arrow_sizes, limit, 2**22)
    if (write, name) == (write_dictionary, "a.arrows"):
        pytest.skip("as a.feather")
    write(tmp_path / name)
    with pytest.raises(DataError, match=r"unpacked|decoded"), limited(memory_mib=100):
        for _ in open_table(DataFile(tmp_path / name, name, sniff(tmp_path / name)), DataOptions(source=name)):
            pass


def test_large_values_in_a_dictionary_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_sizes, "_BATCH_BYTES", 2**16)
    monkeypatch.setattr(arrow_sizes, "_LARGE_DICTIONARY", 2**16)
    monkeypatch.setattr(arrow_sizes, "LARGEST_ROW", 2**17)
    texts = [f"{place % 7} " + "y " * 2**14 for place in range(40)]
    lists = [[text, text] for text in texts]
    pq.write_table(pa.table({"text": texts, "lists": lists}), tmp_path / "a.parquet")
    feather.write_feather(pa.table({"text": pa.array(texts).dictionary_encode(), "lists": lists}), tmp_path / "a.arrow")
    for name in ("a.parquet", "a.arrow"):
        rows = open_table(DataFile(tmp_path / name, name, sniff(tmp_path / name)), DataOptions(source=name))
        assert [(row["text"], row["lists"]) for row in rows] == list(zip(texts, lists, strict=True)), name


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", b"a" + b"," * 2**20 + b"\n", r"line 1: it has 1,048,577 columns"),
        ("a.csv", b'"a"' + b"," * 2**20 + b"\n", r"line 1: it has 1,048,577 columns"),
        ("a.jsonl", b'{"text":"a","x":[' + b"{}," * 2**20 + b"{}]}\n", "more than 262,144 objects"),
        ("a.json", b'{"x":[' + b"{}," * 2**23 + b'{"text":"b"}]}', "more than 4,194,304 objects"),
        ("a.json", b'[{"text":"a","x":[' + b"{}," * 2**22 + b"{}]}]", "a record has more than 262,144 objects"),
    ],
)
def test_a_record_of_very_many_values_is_refused(tmp_path: Path, name: str, text: bytes, problem: str) -> None:
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(text, 1))
    with pytest.raises(DataError, match=problem), limited(memory_mib=300):
        read(path)


def test_a_record_of_very_many_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quoting, "LONGEST_LINE", 2**16)
    (tmp_path / "a.csv").write_text('text,b\n"a' + ("b" * 1000 + '\n","') * 100 + '"\n')
    with pytest.raises(DataError, match="a quote is opened that is never closed"):
        read(tmp_path / "a.csv")


def write_archive(path: Path, names: list[str]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, f"the text of {name}\n")
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                text = f"the text of {name}\n".encode()
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    "members",
    [
        ["a/" * 33 + "t.txt"],
        [f"{number}/t.txt" for number in range(51)],
        ["a/b/c/d/e/f/g/h/i/j/k" + f"/{number}/t.txt" for number in range(50)],
    ],
    ids=["deep", "many", "many in each other"],
)
def test_an_archive_of_folders_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: list[str]
) -> None:
    monkeypatch.setattr(archive, "_MOST_FOLDERS", 50)
    with pytest.raises(DataError, match="has more than 50 folders, or more than 32 in each other"):
        read(write_archive(tmp_path / name, members))
    read(write_archive(tmp_path / f"sound-{name}", [f"x/{number % 40}/{number}.txt" for number in range(80)]))


@pytest.mark.parametrize("end", ["", "x", "x INSERT INTO t", "x PRAGMA foreign_keys"])
@pytest.mark.parametrize(
    "unit", [" ", "\t\n ", "<!-- -->", "/* */", "--\n", "#\n", "% \n", "a: b\n c\n", "| ", "|-", "+--"]
)
def test_a_text_that_nearly_looks_like_markup_is_told_at_once(unit: str, end: str) -> None:
    with limited(seconds=2):
        markup_of((unit * 2**10)[: 2**10] + end)
