"""Tables and values as the commands print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from transformer_foundry.core.base.text import one_line

__all__ = ["show_line", "show_table", "text_of"]


def show_line(text: object, *, err: bool = False) -> None:
    """Print one line; what a file or a server says in it controls no terminal and makes no line of its own."""
    click.echo(one_line(text), err=err)


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` with aligned columns."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def text_of(value: Any) -> str:
    """Return a value of a manifest as text: six digits of a float, ``-`` for None."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else one_line(dict(value) if isinstance(value, Mapping) else value)
