"""The table of formats."""

from __future__ import annotations

import pytest

from transformer_foundry.core.export.formats.table import FORMATS, format_module


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_module_that_writes_and_opens_it(name: str) -> None:
    module = format_module(name)
    assert callable(module.ways)
    assert callable(module.open_file)
