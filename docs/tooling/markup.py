"""Markdown that shows a text exactly as it is."""

from __future__ import annotations

import html
import re

__all__ = ["escaped"]


def escaped(text: str) -> str:
    """Return ``text`` so that Markdown leaves every character of it alone."""
    return re.sub(r"([\\`*_\[\]#|{}])", r"\\\1", html.escape(text, quote=False))
