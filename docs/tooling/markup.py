"""Escape text for Markdown."""

from __future__ import annotations

import html
import re

__all__ = ["escaped"]


def escaped(text: str) -> str:
    """Return ``text`` with every character escaped that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*_\[\]#|{}])", r"\\\1", html.escape(text, quote=False))
