from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Religions", "Muslim (official; Sunni) 85.9%, Christian 6.5%, other 1.9%, none 6.5%", "Muslim, Christian"),
        ("Languages", "Pidgin, English (official)\nnote: about 120 languages", "Pidgin, English"),
        ("Independence", "1 August 1960 (from France)", "1 August 1960"),
        ("Independence", "no official date: 486 (Franks); 1789", ""),
        ("Capital", "Apia ++ time difference: UTC+13", "Apia"),
        ("Natural resources", "none", ""),
        ("Natural hazards", "NA", ""),
    ],
)
def test_a_field_becomes_one_short_line(name: str, text: str, expected: str) -> None:
    from country_text import clean

    assert clean(name, text) == expected


def test_a_long_line_ends_where_an_entry_ends() -> None:
    from country_text import clean

    entries = [f"goods of kind {number}" for number in range(30)]
    text = clean("Exports", ", ".join(entries))
    assert 120 < len(text) <= 160
    assert text.split(", ") == entries[: len(text.split(", "))]


def test_an_ocean_is_no_country(tmp_path: Path) -> None:
    from country_text import read_profile

    path = tmp_path / "oceans" / "zh.json"
    path.parent.mkdir()
    path.write_text(json.dumps({}))
    assert read_profile(path) is None
