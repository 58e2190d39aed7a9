"""The statements of ``report.html``: what a reader sees, by section and kind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "img", "line", "circle", "polyline", "path", "rect", "br"}


@dataclass
class Section:
    """What one section shows."""

    banners: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    chips: list[str] = field(default_factory=list)

    @property
    def has_content(self) -> bool:
        return bool(self.facts or self.rows or self.items or self.texts or self.paragraphs)


class Page(HTMLParser):
    """Reads a report; ``sections`` by anchor, the header under the empty name."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.sections: dict[str, Section] = defaultdict(Section)
        self._anchor = ""
        self._open: list[tuple[str, str]] = []
        self._text: list[str] = []
        self._row: list[str] = []
        self._term = ""
        self._href = ""
        self.title = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "section":
            self._anchor = values["id"]
        if tag in _VOID:
            return
        self._open.append((tag, values.get("class", "")))
        if tag == "tr":
            self._row = []
        if tag == "a":
            self._href = values.get("href", "")
        if tag in ("td", "th", "dt", "dd", "li", "pre", "p", "h1", "span", "a", "code"):
            self._text.append("")

    def handle_data(self, data: str) -> None:
        if any(tag in ("style", "svg") for tag, _ in self._open):
            return
        self._text = [text + data for text in self._text]

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        _, kind = self._open.pop()
        section = self.sections[self._anchor]
        if tag in ("td", "th", "dt", "dd", "li", "pre", "p", "h1", "span", "a", "code"):
            text = " ".join(self._text.pop().split()) if tag != "pre" else self._text.pop()
            self._keep(section, tag, kind, text)
        if tag == "tr" and self._row:
            section.rows.append(self._row)

    def _keep(self, section: Section, tag: str, kind: str, text: str) -> None:
        if tag in ("td", "th"):
            self._row.append(text)
        elif tag == "dt":
            self._term = text
        elif tag == "dd":
            section.facts.append((self._term, text))
        elif tag == "li":
            section.items.append(text)
        elif tag == "pre":
            section.texts.append(text)
        elif tag == "p" and "banner" in kind:
            section.banners.append(text)
        elif tag == "p":
            section.paragraphs.append(text)
        elif tag == "h1":
            self.title = text
        elif tag == "span" and "chip" in kind:
            section.chips.append(text)
        elif tag == "a" and self._anchor:
            section.links.append((text, self._href))
