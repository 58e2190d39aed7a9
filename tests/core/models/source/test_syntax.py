"""Syntax errors and undefined names are found without running the code."""

from __future__ import annotations

import pytest

from tests.core.models.samples import CONSTRUCTORS, INTERMEDIATES
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.source.syntax import parse_model_code, undefined_names


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import torch\n\nclass Net(nn.Module)\n    pass\n", 3),
        ("def f(:\n", 1),
        ("x = 1\n  y = 2\n", 2),
        ("print 'x'\n", 1),
    ],
)
def test_a_syntax_error_is_reported_with_its_line(code, line) -> None:
    with pytest.raises(ModelError, match=rf"model\.py line {line} \(.* is not valid Python") as caught:
        parse_model_code(code)
    assert str(caught.value).count("\n") == 2


@pytest.mark.parametrize("code", ["", "x = 1\n", "# nothing\n", "\0", "<html><body></body></html>", "(" * 500])
def test_code_without_a_model_is_refused(code) -> None:
    with pytest.raises(ModelError, match=r"model\.py"):
        parse_model_code(code)


@pytest.mark.parametrize("style", sorted(CONSTRUCTORS))
def test_correct_code_has_no_undefined_name(style) -> None:
    assert undefined_names(CONSTRUCTORS[style][0]) == []


def test_an_undefined_name_is_found_with_line_and_function() -> None:
    (found,) = undefined_names(INTERMEDIATES)
    assert (found.name, found.function) == ("output_0_logits", "forward")
    assert INTERMEDIATES.splitlines()[found.line - 1] == "        return output_0_logits"


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    global a\n    a = 1\ndef g():\n    return a\n",
        "def f(x):\n    return [y for y in x if y in __file__]\n",
        "try:\n    import a\nexcept ImportError:\n    a = None\ndef f():\n    return a\n",
        "def f():\n    b = 1\n    def g():\n        return b\n    return g\n",
        "class A:\n    c = 1\n    def f(self):\n        return __class__, self.c, super()\n",
        "from math import *\ndef f():\n    return cos(1)\n",
        "for i in range(3):\n    pass\ndef f():\n    return i, len([])\n",
        "with open('x') as d:\n    pass\ndef f():\n    return d\n",
        "def f():\n    return later()\ndef later():\n    pass\n",
        "if (e := 1):\n    pass\ndef f(*a, **k):\n    return e, a, k\n",
    ],
)
def test_every_way_of_defining_a_name_counts(code) -> None:
    assert undefined_names(code) == []


def test_names_are_listed_by_line() -> None:
    code = "def f():\n    return b\n\nclass C:\n    def g(self):\n        return a\n"
    assert [(item.name, item.line, item.function) for item in undefined_names(code)] == [("b", 2, "f"), ("a", 6, "g")]
