"""Recognize secrets and redact them in printed, logged and written text."""

from __future__ import annotations

import functools
import html
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["is_secret_name", "redact", "redact_texts", "redact_values", "remember_secrets", "without_secrets"]

REDACTED = "[redacted]"
_NAME = re.compile(
    r"(^|_)(token|jwt|secrets?|passwords?|passwd|passphrase|pwd|pgpassword|sshpass|credentials?|conn(ection)?_?str(ing)?"
    r"|(database|db|postgres|postgresql|mysql|mongo|mongodb|redis|amqp|rabbitmq|broker|webhook)_ur[il]"
    r"|(api|access|private|secret|account)_?keys?)(_?[0-9]+)?$",
    re.I,
)
# Variables only: a model may have a parameter named "logits_key". What says where a secret is, is none.
_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKENS?|JWT|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PASS|PWD?|CREDENTIALS?|KEYS?|PAT|AUTH|DSN|COOKIES?"
    r"|WEBHOOKS?)(?:_?[0-9]+)?(?:_(?!(?:FILE|PATH|DIR|SOCK|HOST|PORT|NAME|ID|TYPE|TTL|STORE|SIZE|LENGTH|COUNT)(?:_|$))"
    r"[A-Z0-9]+)*$"
)

# Every pattern takes time in proportion to the text: none begins with a part of any length that may fail behind it.
# Formats of keys, as their issuers document them: Hugging Face, GitHub, GitLab, Google, AWS, W&B, OpenAI and Anthropic,
# Slack, Stripe, npm, PyPI, Docker, DigitalOcean, SendGrid, Shopify, Square, Groq, Replicate, Vault, Databricks,
# Telegram, Artifactory; JSON web tokens; private keys.
_VALUES = re.compile(
    r"""(?<![A-Za-z0-9])(?:
    hf_[A-Za-z0-9]{20,} | gh[a-z]_[A-Za-z0-9]{20,} | github_pat_\w{20,}
    | gl[a-z]{2,6}-[\w.-]{20,} | GR1348941[\w-]{20,}
    | AIza[\w-]{30,} | ya29\.[\w-]{20,} | GOCSPX-[\w-]{20,}
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}
    | wandb_v1_\w{20,}
    | sk-[\w-]{20,} | [srp]k_(?:live|test)_[A-Za-z0-9]{16,} | whsec_[A-Za-z0-9+/=]{16,}
    | xox[a-z]-[\w-]{10,} | xapp-[\w-]{10,} | xoxe\.[\w.-]{10,}
    | npm_[A-Za-z0-9]{30,} | pypi-[\w-]{30,} | dckr_pat_[\w-]{20,} | do[opr]_v1_[a-f0-9]{40,}
    | SG\.[\w-]{16,}\.[\w-]{16,} | shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32} | sq0[a-z]{3}-[\w-]{22,}
    | gsk_[A-Za-z0-9]{20,} | r8_[A-Za-z0-9]{20,} | hv[sb]\.[\w-]{20,} | dapi[a-f0-9]{32} | AKC[A-Za-z0-9]{20,}
    | \d{8,10}:[\w-]{35}(?![\w-])
    | hooks\.slack\.com/(?:services|workflows|triggers)/[\w/-]+ | discord(?:app)?\.com/api/webhooks/[\w/-]+
    | AGE-SECRET-KEY-1[A-Z0-9]{20,}
    | (?:(?<![\w-])eyJ[\w-]{8,}+ | eyJ[\w-]{8,1000})\.[\w-]{8,}(?:\.[\w-]*)?
    )
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----[\s\S]*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.X,
)
# "password=...": up to the closing quote, if there is one on the line.
_ASSIGNED = re.compile(
    r"((?:password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|secret[_-]?key|(?:auth|access|refresh|id|session|bearer|security)[_-]?token|signature|jwt)"
    r"(?:\\*[\"'])?\s*[=:]\s*)"
    r"(?:(?P<open>\"{3}|'{3}|\\{0,8}[\"'])(?!\[redacted\]|None\b|null\b|\*+)(?:(?!(?P=open))[^\n])+(?=(?P=open))"
    r"|(?P<lone>(?:\\*[\"'])*)(?!None\b|null\b|\[redacted\]|\*+)[^\s\"'&,;#)}\]]+)",
    re.I,
)
_SCHEME = re.compile(r"\b((?:bearer|basic)\s+)[\w.~+/=-]{16,}", re.I)
# Headers, and options of a command line.
_HEADER = re.compile(
    r"(\bauthorization[\"']?\s*[=:]\s*[\"']?(?:[A-Za-z]+[ ])?|\b(?:set-)?cookie[\"']?\s*:\s*[\"']?)"
    r"(?!\[redacted\])[^\r\n\"']+",
    re.I,
)
_OPTION = re.compile(
    r"((?<![\w-])--?(?:[a-z]+-){0,3}(?:password|passwd|passphrase|pwd|secret|token|api-?key|access-?key|secret-?key)\s+)"
    r"(?!-|\[redacted\])[^\s\"']+",
    re.I,
)
# An address ends at a blank, a quote or, in a chain of fsspec, at "::".
# JSON may write a slash as "\/".
_ADDRESS = re.compile(r"(?<=[A-Za-z0-9+.-]):(\\*/\\*/)((?:(?!::[A-Za-z])[^\s'\"<>`])*)")
_USER_WITHOUT_SCHEME = re.compile(r"(?<![:\w/\\])(//)[^\s/@:'\"<>`]*:[^\s/@'\"<>`]+(?=@[\w\[])")
_AFTER_ADDRESS = ").,;:"
_QUERY_WITHOUT_SCHEME = re.compile(
    r"([?&;](?:[\w.-]*(?:token|key|secret|password|pass|pwd|signature|credential|jwt|code)|sig|auth)=)"
    r"(?!\[redacted\])[^&#;\s'\"]+",
    re.I,
)
# Shorter values ("1", "none") occur in ordinary text.
_MIN_LENGTH = 8
# The second form is that of secret keys of AWS, which contain slashes.
_WORD = re.compile(r"[A-Za-z0-9+=_-]{20,}|(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])")
_RANDOM_CHANGES = 0.4
"""Share of changes between capitals, small letters and digits from which a word is taken for random."""
# A secret in parts: blanks and line ends, backslashes, plain characters, any other character.
_PART = re.compile(r"\s+|\\+|[A-Za-z0-9_]+|[^\sA-Za-z0-9_\\]")
_BLANKS = r"(?:\s|\\+[nrtvf]|%0[9A-Da-d]|%20|\+)+"
_remembered: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Return whether a variable or key of this name holds a secret.

    Example:
        >>> is_secret_name("WANDB_API_KEY"), is_secret_name("pad_token_id")
        (True, False)
    """
    return _NAME.search(name) is not None


def remember_secrets(values: Any) -> None:
    """Treat every value in ``values`` (from ``conf/local/credentials.yml``) of 8 characters or more as a secret."""
    if isinstance(values, Mapping):
        for value in values.values():
            remember_secrets(value)
    elif isinstance(values, bytes):
        remember_secrets(values.decode(errors="replace"))
    elif isinstance(values, str | int | float):  # YAML reads digits as a number
        if len(text := str(values).strip()) >= _MIN_LENGTH:
            _remembered.add(text)
    elif isinstance(values, Iterable):
        for value in values:
            remember_secrets(value)


def redact(text: str) -> str:
    """Return ``text`` with secrets redacted: those of environment and credentials, known formats, addresses.

    An address keeps scheme, host and path: user, password, parameters and query may all be secrets.

    Example:
        >>> redact("postgresql://someone:secret@host/name?sslkey=abc")
        'postgresql://[redacted]@host/name?[redacted]'
    """
    text = _known_secrets().sub(REDACTED, text)
    if ":/" in text or ":\\" in text:
        text = _ADDRESS.sub(_public_address, text)
    text = _VALUES.sub(REDACTED, text)
    text = _ASSIGNED.sub(_without_value, text)
    for pattern in (_QUERY_WITHOUT_SCHEME, _USER_WITHOUT_SCHEME, _SCHEME, _HEADER, _OPTION):
        text = pattern.sub(rf"\1{REDACTED}", text)
    return text


def _public_address(found: re.Match[str]) -> str:
    slashes, rest = found.groups()
    if "\\" not in slashes:
        return f":{slashes}{_public_part(rest)}"
    escaped = slashes.partition("/")[0] + "/"
    return f":{slashes}{_public_part(rest.replace(escaped, '/')).replace('/', escaped)}"


def _without_value(found: re.Match[str]) -> str:
    return f"{found[1]}{found['open'] or found['lone'] or ''}{REDACTED}"


def redact_texts(value: Any) -> Any:
    """Return a value that is written as JSON with secrets in its texts redacted, at any depth.

    Only secrets of environment and credentials, and keys in known formats: other texts of a result stay as they are.
    """
    return _redacted_texts(value, _known_secrets())


def _redacted_texts(value: Any, known: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return _VALUES.sub(REDACTED, known.sub(REDACTED, value))
    if isinstance(value, Mapping):
        return {_redacted_texts(name, known): _redacted_texts(item, known) for name, item in value.items()}
    return [_redacted_texts(item, known) for item in value] if isinstance(value, list | tuple) else value


def redact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the secrets in its strings redacted, at any depth, and words that look random."""
    return {name: _redacted(value) for name, value in values.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact_values(value)
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return _without_random(redact(value)) if isinstance(value, str) else value


def without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` without entries whose name or value is a secret, at any depth."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            kept[name] = without_secrets(value)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
            kept[name] = [without_secrets({"": item}).get("") for item in value]
        elif not is_secret_name(str(name)) and _without_random(redact(str(value))) == str(value):
            kept[name] = value
    return kept


def _public_part(rest: str) -> str:
    """Return what follows ``scheme://`` of an address, without what may be a secret."""
    address = rest.rstrip(_AFTER_ADDRESS)
    rest, closing = address, rest[len(address) :]
    rest, hash_mark, fragment = rest.partition("#")
    rest, question, _ = rest.partition("?")
    authority, slash, path = rest.partition("/")
    # The password may contain a slash: what stands before the last @ is no host, unless the @ is in the path.
    if "@" in path and ":" in authority and not authority.rpartition(":")[2].isdigit():
        authority, slash, path = f"{authority}/{path}".rpartition("@")[2].partition("/")
        authority = f"{REDACTED}@{authority}"
    elif "@" in authority:
        authority = f"{REDACTED}@{authority.rpartition('@')[2]}"
    shown = authority + slash + "/".join(map(_public_segment, path.split("/")))
    if question:
        shown += f"?{REDACTED}"
    if hash_mark:
        shown += f"#{REDACTED}" if "=" in fragment or len(fragment) >= _MIN_LENGTH * 4 else f"#{fragment}"
    return shown + closing


def _public_segment(segment: str) -> str:
    name, semicolon, _ = segment.partition(";")
    return _without_random(name) + (f";{REDACTED}" if semicolon else "")


def _without_random(text: str) -> str:
    return _WORD.sub(lambda found: REDACTED if _is_random(found[0]) else found[0], text)


def _is_random(word: str) -> bool:
    """Return whether a word looks like a generated key; a name, a path or a hexadecimal digest does not.

    In a random word of capitals, small letters and digits 62 % of the neighbors are of different kinds, in names like
    ``MyModel2024Version`` 35 %.
    """
    kinds = [0 if char.isupper() else 1 if char.islower() else 2 for char in word if char.isalnum()]
    changes = sum(first != second for first, second in itertools.pairwise(kinds))
    least = _RANDOM_CHANGES if word.isalnum() else _RANDOM_CHANGES - 0.1
    return set(kinds) == {0, 1, 2} and changes >= least * len(kinds)


def _known_secrets() -> re.Pattern[str]:
    """Return what matches the secrets of environment and credentials, in any form."""
    found = {
        value.strip()
        for name, value in os.environ.items()
        # PWD is the folder of the shell.
        if len(value.strip()) >= _MIN_LENGTH and name != "PWD" and (is_secret_name(name) or _VARIABLE.search(name))
    }
    return _pattern_of(frozenset(found | _remembered))


@functools.lru_cache(maxsize=8)
def _pattern_of(secrets: frozenset[str]) -> re.Pattern[str]:
    """Return what matches each secret as it is, with its lines joined, and as repr, JSON, HTML or a URL quote it.

    In HTML and in a URL, either what must be quoted is quoted or every character is.
    """
    # Longest first: one secret may contain another. Without secrets it matches nothing.
    return re.compile("|".join(map(_any_form, sorted(secrets, key=len, reverse=True))) or r"(?!)")


def _any_form(secret: str) -> str:
    forms = []
    for part in _PART.findall(secret):
        if part.isspace():
            forms.append(_BLANKS)
        elif part.startswith("\\"):
            forms.append(r"(?:\\+|(?:%5[Cc])+)")
        elif len(part) > 1 or (part.isalnum() and part.isascii()):
            forms.append(part)
        else:
            quoted = {part, ascii(part)[1:-1], json.dumps(part)[1:-1], html.escape(part), repr(_bytes_of(part))[2:-1]}
            # Text that is quoted again has more backslashes; each byte may be quoted by digits of either case.
            either = "|".join([*map(re.escape, sorted(quoted)), _in_html(part), _in_address(part)])
            forms.append(rf"\\*(?:{either})")
    return "|".join(["".join(forms), "".join(map(_in_html, secret)), _in_address(secret)])


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _in_html(character: str) -> str:
    return rf"&\#(?:0*{ord(character)}|[xX]0*(?i:{ord(character):x}));"


def _in_address(text: str) -> str:
    return "".join(f"%(?i:{byte:02x})" for byte in _bytes_of(text))
