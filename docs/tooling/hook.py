"""Add pages to mkdocs: those generated from the source, and those at the root of the project."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from checks_page import checks_page
from commands_page import commands_page
from messages_page import messages_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from parameters_page import parameters_page

from transformer_foundry.console.third_party import silence_third_parties

PROJECT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
GENERATED: dict[str, Callable[[], str]] = {
    "reference/parameters.md": parameters_page,
    "reference/checks.md": checks_page,
    "reference/messages.md": messages_page,
    "reference/commands.md": commands_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    silence_third_parties()
    for path, source in ROOT_PAGES.items():
        files.append(File.generated(config, path, content=root_page((PROJECT / source).read_text(encoding="utf-8"))))
    for path, make in GENERATED.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Insert a blank line before each list: Python-Markdown needs it, GitHub does not."""
    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    pattern = re.compile(r"^(?![-*|#>\s]|\d+\. )(.*\S)\n(?=(?:[-*]|1\.) \S)", re.MULTILINE)
    return "".join(block if block.startswith("```") else pattern.sub(r"\1\n\n", block) for block in blocks)


def root_page(text: str) -> str:
    """Return a page of the project's root with links relative to docs/, and an SVG in place of the Mermaid diagram."""
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"\]\((CONTRIBUTING|CHANGELOG)\.md\)", lambda match: f"]({match[1].lower()}.md)", text)
    drawing = (PROJECT / "docs" / "tooling" / "pipelines.svg").read_text(encoding="utf-8")
    return re.sub(r"```mermaid\n.*?```", lambda _: drawing, text, flags=re.DOTALL)
