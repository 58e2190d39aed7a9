"""Render the templates of reports with Jinja: every value is escaped, and secrets in it are redacted."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import format_number, printable

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["mapping", "mappings", "render", "render_banners", "render_chip", "sequence"]

_TEMPLATES = Path(__file__).parent / "templates"

# A browser drops or misreads control characters; their pictures (U+2400 and on) show them. Tab and line feed are text.
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | {127: "\u2421"}

_SEVERITIES = ("error", "warning", "info")

_MAX_TEXT = 4000
"""Characters of one text; a report is for reading."""


def render(template: str, **values: object) -> Markup:
    """Return a template of the folder ``templates``, filled in with ``values``: HTML, which needs no more escaping."""
    return Markup(_environment().get_template(template).render(**values))


def render_chip(label: str, kind: str) -> Markup:
    """Return a small colored label; ``kind`` is good, bad, warn or calm."""
    module: Any = _environment().get_template("widgets.html").module
    return Markup(module.chip(label, kind))


def render_banners(sentences: Sequence[str]) -> Markup:
    """Return a paragraph for each sentence, in the color of warnings."""
    module: Any = _environment().get_template("widgets.html").module
    return Markup("").join(Markup(module.banner(sentence)) for sentence in sentences)


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, otherwise an empty one: files of a run can be damaged or edited."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """Return ``value`` if it is a list, otherwise an empty one."""
    return value if isinstance(value, list | tuple) else ()


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the items of a list as mappings; items of another type as empty ones."""
    return [mapping(item) for item in sequence(value)]


@functools.cache
def _environment() -> Environment:
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_shown,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "as_text": _as_text,
        "by_severity": _by_severity,
        "cell": _cell,
        "coordinates": _coordinates,
        "link_target": _link_target,
        "mapping": mapping,
        "number": _number,
        "percent": _percent,
        "present": _present,
        "sequence": sequence,
    }
    return environment


def _shown(value: object) -> object:
    """Return what an expression of a template shows; Jinja escapes it after that."""
    if isinstance(value, Markup | int | float):
        return value
    if value is None:
        return ""
    # Half a surrogate pair is legal in JSON and in a str, and in no file of UTF-8.
    encodable = str(value).encode("utf-8", "replace").decode("utf-8")
    lines = redact(encodable).translate(_CONTROLS).split("\t")
    return "\t".join(map(printable, lines))


def _cell(value: object) -> object:
    """Return a value as a cell of a table shows it: numbers rounded, texts cut."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, int | float):
        return format_number(value)
    written = redact(str(value))  # before it is cut: a half secret is not recognized
    return written if len(written) <= _MAX_TEXT else f"{written[:_MAX_TEXT]} …"


def _number(value: object, digits: int = 4) -> str:
    from jinja2 import Undefined

    return format_number(None if isinstance(value, Undefined) else value, digits)


def _percent(value: object) -> str | None:
    return f"{value:.2%}" if isinstance(value, int | float) else None


def _present(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that are known and not empty."""
    from jinja2 import Undefined

    return {
        name: value for name, value in values.items() if not isinstance(value, Undefined) and value not in (None, "")
    }


def _as_text(values: object) -> dict[str, str]:
    return {name: str(value) for name, value in mapping(values).items()}


def _coordinates(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _by_severity(findings: object) -> list[Mapping[str, Any]]:
    known = [item for item in mappings(findings) if item.get("severity") in _SEVERITIES]
    return sorted(known, key=lambda item: _SEVERITIES.index(item["severity"]))


def _link_target(address: str) -> str | None:
    """Return the ``href`` of a web page or of a path that begins with ``./``; None for any other address."""
    if address.startswith(("https://", "http://")):
        return address
    return urllib.parse.quote(address, errors="replace") if address.startswith("./") else None
