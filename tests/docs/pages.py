"""The pages of the documentation by the path that they have in the site."""

from __future__ import annotations

import functools
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


@functools.cache
def generated() -> dict[str, str]:
    """Return the pages that are made from the source."""
    from checks_page import checks_page
    from commands_page import commands_page
    from messages_page import messages_page
    from parameters_page import parameters_page

    return {
        "reference/parameters.md": parameters_page(),
        "reference/checks.md": checks_page(),
        "reference/messages.md": messages_page(),
        "reference/commands.md": commands_page(),
    }


@functools.cache
def written() -> dict[str, str]:
    """Return the pages that are written by hand, those of the project's root by their names there."""
    docs = PROJECT / "docs"
    found = {path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8") for path in docs.rglob("*.md")}
    roots = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return found | {f"../{path.name}": path.read_text(encoding="utf-8") for path in roots}


def entries(page: str) -> dict[str, str]:
    """Return the parts of a page under its headings of the third level, by what stands in them as code or anchor."""
    parts = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0].strip(): part.split("\n", 1)[1] for part in parts}
