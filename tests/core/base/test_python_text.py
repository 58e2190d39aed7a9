"""Python text of unknown origin is parsed within limits of memory and time."""

from __future__ import annotations

import ast
import contextlib

import pytest

from tests.faults.limits import limited
from transformer_foundry.core.base.python_text import (
    MAX_BRACES,
    MAX_CODE_BYTES,
    MAX_PARTS,
    CodeTooLargeError,
    parse_literal,
    parse_python,
)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import " + ".".join("a" * 100_000), "name of more than 64 parts"),
        ("x = 1\nimport " + " . ".join("a" * 100_000), "line 2 has a name"),
        ("import " + ".\\\n".join("a" * 100_000), "line 1 has a name"),
        ("import " + ".".join("é" * 50_000), "name of more than 64 parts"),
        ("import " + "·.".join("a" * 50_000), "name of more than 64 parts"),
        ("f'" + "{a}" * 170_000 + "'", "170,000 opening braces"),
        ("a\n" * 2_000_000, "4,000,000 bytes"),
        ("é" * (MAX_CODE_BYTES // 2 + 1), "bytes"),
    ],
)
def test_code_that_takes_quadratic_memory_or_time_is_refused_at_once(code: str, reason: str) -> None:
    with limited(memory_mib=100, seconds=4), pytest.raises(CodeTooLargeError, match=reason):
        parse_python(code)


@pytest.mark.parametrize(
    "code",
    [
        ("import " + ".".join(["a" * 1000] * MAX_PARTS) + "\n") * 8,
        "x = '" + ("a . " * 63 + "a $ ") * 2000 + "'",
        "x = '" + ("b" * 100 + " ") * 5000 + "'",
        "a" + " " * 500_000 + "b",
        "a\n" * (MAX_CODE_BYTES // 16),
        "f'" + "a" * 10_000 + "{a}" * MAX_BRACES + "'",
    ],
)
def test_the_largest_code_that_is_read_takes_bounded_memory_and_time(code: str) -> None:
    with limited(memory_mib=200, seconds=10), contextlib.suppress(SyntaxError):
        parse_python(code)


def test_usual_code_is_parsed_as_it_is() -> None:
    code = "import a.b.c\nx = {'a': 1.5}  # ... . . e.g. x.y\nsteps = [0.1, 0.2] * 40\n"
    assert ast.dump(parse_python(code)) == ast.dump(ast.parse(code))
    assert ast.dump(parse_python("f(x)", mode="eval")) == ast.dump(ast.parse("f(x)", mode="eval"))


def test_a_literal_has_the_same_limits() -> None:
    assert parse_literal(" ['a', 1]") == ["a", 1]
    with limited(memory_mib=100, seconds=2), pytest.raises(ValueError, match="bytes"):
        parse_literal("[" + "0," * 1_000_000 + "]")
