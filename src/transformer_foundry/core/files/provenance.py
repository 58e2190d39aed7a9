"""What an artefact was made from: digests and a step by name, kept in it as ``made_from``, and their comparison.

A result in JSON keeps it as a key, a folder in its manifest. Whether an artefact is reused, shown beside another one or
refused depends on these values, never on names or times of files. The names:

| name | value |
|---|---|
| ``model`` | sha256 of ``model.py`` and ``config.json`` (``ModelSource.identity``) |
| ``data`` | fingerprint of the token splits |
| ``tokenizer`` | digest of the tokenizer |
| ``weights`` | digest of the weights, from the manifest of their checkpoint |
| ``step`` | optimizer updates that the weights have seen |
| ``parameters`` | the options that matter, as JSON (``settings_text``); a digest where they are many |
| ``code`` | version of this package |
| ``evaluation``, ``package`` | digest of such an artefact |

A result in JSON also keeps the digest of its content (``content_digest``): one that has changed since is not used. A
result without it, of a node of the user for example, is taken for what its origin says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from transformer_foundry import __version__
from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.base.text import short_list

__all__ = [
    "CODE_VERSION",
    "MADE_FROM",
    "Origin",
    "difference_text",
    "digest_of",
    "has_changed",
    "is_made_from",
    "model_digest",
    "origin_differences",
    "origin_of",
    "run_origin",
    "settings_text",
    "with_origin",
]

MADE_FROM = "made_from"
CONTENT = "content_digest"
CODE_VERSION = __version__

Origin: TypeAlias = Mapping[str, str | int]
"""Name -> digest; an integer for ``step``. Empty for an artefact of unknown origin."""

_CHANGED: Origin = {CONTENT: "changed"}
"""What an artefact stands for whose content is not what was written."""

_DIGEST = "_sha256"
_MOST_SETTINGS, _MOST_CHARACTERS = 3, 60
"""Settings that a line names, and characters of a value."""

_WORDS = {
    "model": "another model",
    "data": "other data",
    "tokenizer": "another tokenizer",
    "weights": "other weights",
    "step": "another step",
    "parameters": "other settings",
    "code": "another version of transformer-foundry",
    "evaluation": "another evaluation",
    "package": "another package",
}


def digest_of(value: Any) -> str:
    """Return the sha256 of a value that JSON can hold; the order of the keys of mappings does not matter.

    Example:
        >>> digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return options as the text that an origin keeps, so that those that differ later can be named.

    Example:
        >>> settings_text({"tier": 2, "kind": None})
        '{"kind": null, "tier": 2}'
    """
    return json.dumps(settings, sort_keys=True, default=list)


def model_digest(model_code: str, config: str) -> str:
    """Return the digest of a model from the sha256 of its two files."""
    return hashlib.sha256(f"model.py:{model_code}\nconfig.json:{config}\n".encode()).hexdigest()


def run_origin(identity: Mapping[str, str]) -> dict[str, str | int]:
    """Return the origin that the identity of a run (``run_identity``, kept in manifest and checkpoints) stands for.

    Example:
        >>> run_origin({"data": "3f2a", "tokenizer": "9c01"})
        {'data': '3f2a', 'tokenizer': '9c01'}
    """
    origin: dict[str, str | int] = {name: identity[name] for name in ("data", "tokenizer") if name in identity}
    if "model_code" in identity and "config" in identity:
        origin = {"model": model_digest(identity["model_code"], identity["config"]), **origin}
    return origin


def with_origin(artefact: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """Return a result for JSON, without secrets, with its origin and the digest of its content as further keys.

    Example:
        >>> sorted(with_origin({"step": 400}, {"model": "3f"}))
        ['content_digest', 'made_from', 'step']
    """
    bare = {name: value for name, value in artefact.items() if name not in (MADE_FROM, CONTENT)}
    kept: dict[str, Any] = redact_texts(bare)  # as its file will hold it
    content = {"keys": sorted(map(str, kept)), "sha256": _content_digest(kept)}
    return {**kept, MADE_FROM: dict(origin), CONTENT: content}


def has_changed(artefact: object) -> bool:
    """Return whether the content of a result is not what was written; keys that were added since do not count."""
    content = artefact.get(CONTENT) if isinstance(artefact, Mapping) else None
    if not isinstance(content, Mapping) or not isinstance(artefact, Mapping):
        return False
    names = content.get("keys")
    names = set(map(str, names)) if isinstance(names, list | tuple) else set()
    written = {name: value for name, value in artefact.items() if str(name) in names}
    return content.get("sha256") != _content_digest(written)


def _content_digest(content: Mapping[str, Any]) -> str:
    # As it is after a round trip through JSON: tuples are lists there, and all keys are texts.
    return digest_of(json.loads(json.dumps(content, default=repr)))


def origin_of(artefact: object) -> dict[str, str | int]:
    """Return the origin of a result or of the manifest of a folder; empty if unknown, as version 0.1.0 left it.

    Of a result that has changed since it was written, it is none that is ever expected.
    """
    if has_changed(artefact):
        return dict(_CHANGED)
    origin = artefact.get(MADE_FROM) if isinstance(artefact, Mapping) else None
    if not isinstance(origin, Mapping):
        return {}
    return {str(name): value for name, value in origin.items() if isinstance(value, str | int)}


def origin_differences(expected: Origin, found: Origin, names: Sequence[str] | None = None) -> list[str]:
    """Return the names in which an artefact differs from what is expected of it.

    Args:
        expected: What the artefact should be made from.
        found: What it is made from; a name that is missing here differs. Names that only it has do not count.
        names: The names of ``expected`` to compare; all by default.

    Example:
        >>> origin_differences({"model": "3f", "step": 600}, {"model": "3f", "step": 400, "code": "0.1.0"})
        ['step']
    """
    compared = expected if names is None else [name for name in names if name in expected]
    return [name for name in compared if found.get(name) != expected[name]]


def is_made_from(artefact: object, expected: Origin, names: Sequence[str] | None = None) -> bool:
    """Return whether an artefact (a result, or a manifest) says that it was made from ``expected``."""
    origin = origin_of(artefact)
    return bool(origin) and origin != _CHANGED and not origin_differences(expected, origin, names)


def difference_text(expected: Origin, found: Origin, names: Sequence[str] | None = None) -> str:
    """Return in words in what an artefact differs from what is expected of it; empty if in nothing.

    Example:
        >>> difference_text({"weights": "3f", "step": 600}, {"weights": "9c", "step": 400})
        'step 400 instead of 600'
        >>> difference_text({"model": "3f", "data": "9c"}, {"model": "3f", "data": "77"})
        'other data'
        >>> difference_text({"parameters": '{"tier": 2}'}, {"parameters": '{"tier": 1}'})
        'other settings (tier 1 -> 2)'
        >>> difference_text({"model": "3f"}, {})
        'unknown origin'
        >>> difference_text({"model": "3f"}, origin_of(with_origin({"loss": 4.6}, {"model": "3f"}) | {"loss": 2.6}))
        'content that has changed since it was written'
    """
    if not found:
        return "unknown origin"
    if found == _CHANGED:
        return "content that has changed since it was written"
    differing = origin_differences(expected, found, names)
    if "step" in differing and "step" in found:
        # Weights of another step are other weights: one of the two is enough.
        words = [f"step {found['step']} instead of {expected['step']}"]
        differing = [name for name in differing if name not in ("step", "weights")]
    else:
        words = []
    words += [_WORDS.get(name, f"another {name}") if name in found else f"unknown {name}" for name in differing]
    if "parameters" in differing and (named := _changed_settings(found.get("parameters"), expected["parameters"])):
        words = [f"{word} ({named})" if word == _WORDS["parameters"] else word for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _changed_settings(before: object, now: object) -> str:
    """Return the settings that differ and are known, with their values; empty for digests."""
    try:
        old, new = (json.loads(str(text)) for text in (before, now))
        pairs = {name: (old.get(name), new[name]) for name in new if old.get(name) != new[name]}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""
    values = (
        f"{name} {_short(was)} -> {_short(value)}"
        if name in old and not name.endswith(_DIGEST)
        else name.removesuffix(_DIGEST)
        for name, (was, value) in pairs.items()
    )
    return short_list(list(values), _MOST_SETTINGS)


def _short(value: object) -> str:
    text = "null" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
