"""The examples in the docstrings say what the code does."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest

from tests.architecture import modules

_EXAMPLE = re.compile(r"^ *>>> (?!.*\+SKIP)", flags=re.MULTILINE)
WITH_EXAMPLES = sorted(name for name, path in modules().items() if _EXAMPLE.search(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_are_right(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"transformer_foundry.{name}"))
    assert result.attempted
    assert not result.failed
