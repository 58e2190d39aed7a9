"""Templates that join the columns of a row to one text, such as ``{instruction}\\n{input}\\n{output}``."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError

__all__ = ["Template", "join_lines_template", "parse_template"]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Template:
    """A parsed template.

    Attributes:
        fields: (text before the field, name of the field) in order.
        tail: Text after the last field.
    """

    fields: tuple[tuple[str, str], ...]
    tail: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(name for _, name in self.fields)

    def render(self, values: Mapping[str, str]) -> tuple[str, dict[str, int]]:
        """Return the text of a row, and where the value of each field that is not empty begins in it.

        An empty field leaves nothing: the text before it, such as a heading, is left out too.
        """
        text, starts = "", {}
        for before, name in self.fields:
            if not values[name].strip():
                continue
            text += before if text else before.lstrip()
            starts[name] = len(text)
            text += values[name]
        return text + (self.tail if starts else ""), starts


@functools.lru_cache
def parse_template(text: str) -> Template:
    """Parse a template; ``{{`` and ``}}`` are braces, and a written ``\\n`` is a line break, as quotes may leave it.

    Raises:
        ParameterError: If a brace is not closed, or there is no field or one that is used twice.
    """
    text = text.replace("\\n", "\n")
    fields: list[tuple[str, str]] = []
    literal, position = "", 0
    for match in _TOKEN.finditer(text):
        literal += text[position : match.start()]
        position = match.end()
        if match.group() in ("{{", "}}"):
            literal += match.group()[0]
        elif match.group() in ("{", "}") or not (match.group(1) or "").strip():
            raise _refuse(text, f"has an open or empty brace at character {match.start() + 1}")
        else:
            fields.append((literal, match.group(1).strip()))
            literal = ""
    names = [name for _, name in fields]
    if not names:
        raise _refuse(text, "names no column")
    if len(set(names)) < len(names):
        raise _refuse(text, "names a column twice")
    return Template(tuple(fields), literal + text[position:])


def join_lines_template(names: Sequence[str], markers: Mapping[str, str]) -> str:
    """Return the template that writes each column on a line of its own, choices after their marker.

    Example:
        >>> join_lines_template(["question", "A"], {"A": "A"})
        '{question}\\nA. {A}'
    """
    return "\n".join((f"{markers[name]}. " if name in markers else "") + "{" + name + "}" for name in names)


def _refuse(text: str, problem: str) -> ParameterError:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return ParameterError(
        f"data.template {problem}: {shown!r}.",
        "Expected text with the names of columns in braces, such as '{instruction}\\n{input}\\n{output}'.",
        "Correct data.template; write a brace that is text twice: {{.",
    )
