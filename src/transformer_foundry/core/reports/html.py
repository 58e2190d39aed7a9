"""HTML by construction: what is not made by :func:`tag` is text, and all text is escaped."""

from __future__ import annotations

import html
import urllib.parse

from transformer_foundry.core.base.secrets import redact

__all__ = ["Markup", "link", "tag", "text"]

_VOID = frozenset({"meta", "img", "line", "circle", "polyline", "rect"})
# A browser drops or misreads control characters; their pictures (U+2400 and on) show them. Tab and line feed are text.
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | {127: "\u2421"}


class Markup(str):
    """A text that is HTML already. Only this module makes them, of constants and of escaped texts."""


def text(value: object) -> Markup:
    """Return ``value`` as HTML that shows it as it is, but for secrets: no part of it is read as markup.

    Example:
        >>> text("<b> & 'c'")
        '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    if isinstance(value, Markup):
        return value
    # Half a surrogate pair is legal in JSON and in a str, and in no file of UTF-8.
    encodable = str(value).encode("utf-8", "replace").decode("utf-8")
    return Markup(html.escape(redact(encodable).translate(_CONTROLS)))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element; children that are no :class:`Markup` are escaped, None and empty ones are left out.

    Args:
        name: Name of the element: a constant of ours.
        children: Markup, or values that are shown as text.
        attributes: Value of each attribute, escaped; ``class_`` is ``class``, ``text_anchor`` is ``text-anchor``; True
            stands alone, None is left out.

    Example:
        >>> tag("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{written}>" if name in ("meta", "img") else f"<{name}{written}/>")
    inner = "".join(text(child) for child in children if child is not None)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def link(address: str, label: object) -> Markup:
    """Return a link to a web page or a path that begins with ``./``; of any other address only the label."""
    if address.startswith(("https://", "http://")):
        return tag("a", label, href=address, rel="noreferrer")
    if address.startswith("./"):
        return tag("a", label, href=urllib.parse.quote(address, errors="replace"))
    return text(label)


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'
