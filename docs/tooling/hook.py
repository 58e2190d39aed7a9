"""What mkdocs does besides: pages made from the source, and pages that lie at the root of the project."""

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
    """Add the pages that are made."""
    silence_third_parties()
    for path, source in ROOT_PAGES.items():
        files.append(File.generated(config, path, content=root_page((PROJECT / source).read_text(encoding="utf-8"))))
    for path, make in GENERATED.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put a blank line before each list: GitHub needs none, Python-Markdown does."""
    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    pattern = re.compile(r"^(?![-*|#>\s]|\d+\. )(.*\S)\n(?=(?:[-*]|1\.) \S)", re.MULTILINE)
    return "".join(block if block.startswith("```") else pattern.sub(r"\1\n\n", block) for block in blocks)


def root_page(text: str) -> str:
    """Return a page of the project's root so that its links hold in docs/, with the drawing in place of Mermaid's."""
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"\]\((CONTRIBUTING|CHANGELOG)\.md\)", lambda match: f"]({match[1].lower()}.md)", text)
    drawing = (PROJECT / "docs" / "tooling" / "pipelines.svg").read_text(encoding="utf-8")
    return re.sub(r"```mermaid\n.*?```", lambda _: drawing, text, flags=re.DOTALL)
