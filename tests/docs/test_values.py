"""Every value of a parameter that a page or a help text names is accepted, quoted or not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.console.params_text import parse_params
from transformer_foundry.core.base.options import parse_options

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
FIELDS = {section: {field.name: field for field in dataclasses.fields(kind)} for section, kind in SECTIONS.items()}

_WRITTEN = re.compile(
    rf"""\b(?P<section>{"|".join(SECTIONS)})\.(?P<name>[a-z_0-9]+)(?:=|:\ )"""
    rf"""(?P<value>"[^"]*"|'[^']*'|\[[^\]]*\]|[^\s,`'";)|]+)"""
)
_PLACEHOLDER = re.compile(r"[A-Z]{3}|[{}%<>]|\.\.\.")


def written_values() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for found in _WRITTEN.finditer(page.read_text(encoding="utf-8")):
            value = found["value"].rstrip(".:")
            if value and not _PLACEHOLDER.search(value):
                yield found["section"], found["name"], value


VALUES = sorted(set(written_values()))


def test_there_are_values_to_look_at() -> None:
    assert len(VALUES) > 40


@pytest.mark.parametrize(("section", "name", "value"), VALUES, ids=[f"{s}.{n}={v}" for s, n, v in VALUES])
def test_a_value_that_a_page_names_is_accepted_on_the_command_line_and_in_yaml(
    section: str, name: str, value: str
) -> None:
    assert name in FIELDS[section]
    read: Any = OmegaConf.to_container(OmegaConf.create(f"{section}:\n  {name}: {value}\n"))
    given: list[Any] = [parse_params(f"{section}.{name}={value}")[section], read[section]]
    if value in (FIELDS[section][name].metadata.get("choices") or ()):
        given.append({name: value})  # in quotes
    for values in given:
        parse_options(SECTIONS[section], values, section)
