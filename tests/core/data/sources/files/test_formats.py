from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.formats import DATA_ENDINGS, FORMATS, GROUPS, open_table
from transformer_foundry.core.data.sources.files.kind import DataFile, FileKind
from transformer_foundry.core.data.sources.files.signatures import refuse_known, stored_format
from transformer_foundry.core.data.sources.local_files import find_files
from transformer_foundry.core.data.sources.remote import STREAMED

PAGE = Path(__file__).parents[5] / "docs" / "data.md"
ENDINGS = [ending for known in FORMATS.values() for ending in known.endings]


def test_an_ending_belongs_to_one_format() -> None:
    assert [ending for ending, count in Counter(ENDINGS).items() if count > 1] == []


def test_what_is_streamed_from_a_url_is_read_from_a_file_too() -> None:
    assert set(STREAMED) <= DATA_ENDINGS


@pytest.mark.parametrize("group", GROUPS)
def test_the_documentation_names_the_format(group: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("\n## Files") : page.index("\n## ", page.index("\n## Files") + 1)].lower()
    assert group in table


@pytest.mark.parametrize("ending", sorted(set(ENDINGS) - {".csv", ".tsv", ".tab", ".psv"}))
def test_no_file_of_data_is_dropped_beside_a_table(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "one two,three\n" * 9, encoding="utf-8")
    (tmp_path / f"b{ending}").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=rf"b{ending}|several formats|files for"):
        find_files(str(tmp_path), DataOptions(source=str(tmp_path)))


def test_an_archive_has_no_rows(tmp_path: Path) -> None:
    file = DataFile(tmp_path / "a.zip", "a.zip", FileKind("zip", "its name"))
    with pytest.raises(ValueError, match="zip has no reader"):
        open_table(file, DataOptions(source="a.zip"))


@pytest.mark.parametrize("name", [name for name, known in FORMATS.items() if known.signatures])
def test_a_format_that_is_read_is_not_refused_too(name: str) -> None:
    for mark in FORMATS[name].signatures:
        refuse_known("a file", mark + bytes(99))
        assert stored_format(mark + bytes(99)) == name
