"""The table of formats, and what must follow it."""

from __future__ import annotations

from pathlib import Path

import pytest

from transformer_foundry.core.export.formats.smaller_onnx import WRITERS
from transformer_foundry.core.export.formats.table import FORMATS, VARIANT_FORMATS, format_module

PAGE = Path(__file__).parents[4] / "docs" / "export.md"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_module_that_writes_and_opens_it(name: str) -> None:
    module = format_module(name)
    assert callable(module.ways)
    assert callable(module.open_file)


@pytest.mark.parametrize("name", FORMATS)
def test_the_documentation_names_every_format_and_its_file(name: str) -> None:
    assert f"\n| `{name}` | `{FORMATS[name].file}` |" in PAGE.read_text(encoding="utf-8")


def test_every_variant_has_its_writers() -> None:
    assert sorted(WRITERS) == sorted(VARIANT_FORMATS)
