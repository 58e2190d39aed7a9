"""Parse Python text of unknown origin within limits: the parser of CPython takes quadratic memory and time for some."""

from __future__ import annotations

import ast
import re
from typing import Any, Literal, overload

__all__ = ["MAX_CODE_BYTES", "CodeTooLargeError", "parse_literal", "parse_python"]

MAX_CODE_BYTES = 512 * 2**10
"""Of one file: parsing takes up to 1,500 bytes of memory for each, and a model's code has a few hundred thousand."""
MAX_PARTS = 64
"""Of a dotted name. The parser keeps each prefix of a name in an import: 60,000 parts took 3.9 GB."""
MAX_BRACES = 8192
"""Opening braces of one text: the parser of Python 3.11 goes back to the start of an f-string for each one in it.

8,000 at the end of an f-string of 512 KiB took 2 s, 170,000 several minutes.
"""
# Characters of names, and what may be between the parts of one, have none in common and are never given back: the time
# is linear. Shorter names are not looked at one by one.
_NAME, _BLANKS = r"[\w\x80-\U0010ffff]", r"[ \t\r\n\f\\]*+"
_DOTTED = re.compile(rf"(?<!{_NAME})(?<!\.){_NAME}++(?:{_BLANKS}\.{_BLANKS}{_NAME}++){{8,}}+")


class CodeTooLargeError(ValueError):
    """A text is not parsed since that could take too much memory or time; the message is the end of a sentence."""


@overload
def parse_python(code: str, file_name: str = ..., mode: Literal["exec"] = ...) -> ast.Module: ...
@overload
def parse_python(code: str, file_name: str = ..., *, mode: Literal["eval"]) -> ast.Expression: ...


def parse_python(code: str, file_name: str = "<text>", mode: Literal["exec", "eval"] = "exec") -> ast.AST:
    """Return the syntax tree of a text that anyone may have written.

    It is text, not bytes: those could name an encoding in which a comment is code.

    Raises:
        CodeTooLargeError: If it has more than ``MAX_CODE_BYTES``, a dotted name of more than ``MAX_PARTS`` parts, or
            more than ``MAX_BRACES`` braces.
        SyntaxError, ValueError, RecursionError, MemoryError: If it is no valid Python, or nested too deeply.

    Example:
        >>> parse_python("import " + "a." * 64 + "a")
        Traceback (most recent call last):
        ...
        transformer_foundry.core.base.python_text.CodeTooLargeError: line 1 has a name of more than 64 parts
    """
    _require_small(code)
    return ast.parse(code, file_name, mode)


def parse_literal(text: str) -> Any:
    """Return the value of a Python literal, as ``ast.literal_eval`` does, with the limits of ``parse_python``."""
    return ast.literal_eval(parse_python(text.strip(), mode="eval"))


def _require_small(code: str) -> None:
    size = len(code) if len(code) > MAX_CODE_BYTES else len(code.encode("utf-8", "surrogatepass"))
    if size > MAX_CODE_BYTES:
        raise CodeTooLargeError(f"it has {size:,} bytes, more than the {MAX_CODE_BYTES:,} that are read")
    for found in _DOTTED.finditer(code):
        if found[0].count(".") >= MAX_PARTS:
            line = code.count("\n", 0, found.start()) + 1
            raise CodeTooLargeError(f"line {line} has a name of more than {MAX_PARTS} parts")
    if (braces := code.count("{")) > MAX_BRACES:
        raise CodeTooLargeError(f"it has {braces:,} opening braces, more than the {MAX_BRACES:,} that are read")
