"""What the pages name exists: parameters, messages, files, each other."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PROJECT, entries, generated, written
from transformer_foundry.config.parameters import SECTIONS, TOP_LEVEL

KNOWN = {f"{section}.{field.name}" for section, options in SECTIONS.items() for field in dataclasses.fields(options)}
KNOWN |= set(TOP_LEVEL)
SITE_NAMES = {"../README.md": "index.md", "../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}


def slug(title: str) -> str:
    """Return the anchor of a heading as Python-Markdown and GitHub make it."""
    explicit = re.search(r"\{ *#(\S+) *\}", title)
    return explicit[1] if explicit else re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def anchors(page: str) -> set[str]:
    """Return the anchors of a page."""
    return {slug(title) for title in re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)}


@pytest.mark.parametrize("name", written())
def test_a_parameter_that_a_page_sets_exists(name: str) -> None:
    listed = re.findall(r"--params[ \n]+['\"]?([^\s`'\"]+)", written()[name])
    keys = [item.split("=")[0] for text in listed for item in re.split(r",(?![^\[]*\])", text) if "=" in item]
    keys += re.findall(rf"`((?:{'|'.join(SECTIONS)})\.\w+)=[^`]*`", written()[name])

    unknown = [key for key in keys if key not in KNOWN]
    assert unknown == []


def test_the_pages_set_parameters_at_all() -> None:
    assert sum(page.count("--params") for page in written().values()) > 30


@pytest.mark.parametrize("name", written())
def test_a_link_leads_to_a_page_and_a_heading_that_exist(name: str) -> None:
    pages = {SITE_NAMES.get(path, path): text for path, text in (written() | generated()).items()}
    here = Path("/docs") / name
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", written()[name], flags=re.DOTALL)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = Path(os.path.normpath(here.parent / path)) if path else here
        page = place.relative_to("/docs").as_posix() if place.is_relative_to("/docs") else f"../{place.name}"
        page = SITE_NAMES.get(page, page)
        if page.endswith(".png") and (PROJECT / "docs" / page).is_file():
            continue
        if page not in pages or (anchor and anchor not in anchors(pages[page])):
            broken.append(target)
    assert broken == []


def test_the_headings_of_troubleshooting_are_messages_of_the_program() -> None:
    from messages_page import messages

    told = [" ".join(call.arguments[:2]) for call in messages()]
    quoted = [title.strip("`") for title in entries(written()["troubleshooting.md"]) if title.startswith("`")]

    assert len(quoted) > 20
    missing = [quote for quote in quoted if not any(_holds(text, quote) for text in told)]
    assert missing == []


def _holds(text: str, quote: str) -> bool:
    """Whether the pieces of ``quote`` between its ``…`` stand in ``text`` in their order."""
    return re.search(".*".join(re.escape(piece.strip()) for piece in quote.split("…")), text, re.IGNORECASE) is not None


@pytest.mark.parametrize("name", written())
def test_a_file_of_the_project_that_a_page_names_exists(name: str) -> None:
    named = re.findall(r"`((?:tests|src|conf|notebooks|docs)/[\w/.-]+\.(?:py|yml|ipynb|md))`", written()[name])

    # conf/local is the user's own.
    assert [path for path in named if not path.startswith("conf/local/") and not (PROJECT / path).exists()] == []


@pytest.mark.parametrize("name", written())
def test_a_module_that_a_page_runs_exists(name: str) -> None:
    modules = re.findall(r"python -m ((?:tests|transformer_foundry)[\w.]*)", written()[name])
    roots = {"tests": PROJECT, "transformer_foundry": PROJECT / "src"}

    places = [roots[module.split(".")[0]] / module.replace(".", "/") for module in modules]
    assert [place for place in places if not (place.with_suffix(".py").exists() or place.is_dir())] == []


def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]

    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 30
    loaded = r"<(?:script|img|iframe)[^>]+src=\"https?:|<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+https?:"
    assert [page.name for page in pages if re.search(loaded, page.read_text(encoding="utf-8"))] == []


def test_each_promise_of_the_security_page_names_a_test_that_exists() -> None:
    text = (PROJECT / "docs" / "security.md").read_text()
    table = text.partition("## Promises and their tests")[2].partition("\n## ")[0]
    named = [re.search(r"`(tests/[^`]+)` \|$", line) for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(named) > 12
    assert all(found is not None and (PROJECT / found[1]).is_file() for found in named)
