"""Recognize secrets and redact them in printed, logged and written text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["is_secret_name", "redact", "redact_values", "remember_secrets", "without_secrets"]

REDACTED = "[redacted]"
_NAME = re.compile(
    r"(^|_)(token|secret|password|passwd|pgpassword|credentials?|(api|access|private|secret)_?key)$", re.I
)
# Variables only: a model may have a parameter named "logits_key".
_VARIABLE = re.compile(r"_(KEY|PASS|PWD|PASSPHRASE|PAT|AUTH)$")
_VALUES = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[a-z]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AIza[\w-]{30,}|AKIA[A-Z0-9]{16}"
    r"|wandb_v1_\w{20,}"
)
# The password in a URL, unless it is masked already.
_PASSWORD = re.compile(r"(://[^:/@\s]*:)(?!\*+@)[^/\s]+(?=@)")
# Parameters of a signed URL.
_QUERY = re.compile(
    r"([?&](?:[\w.-]*(?:token|key|secret|password|signature|credential)|sig|auth)=)[^&#\s'\"]+", re.IGNORECASE
)
# Shorter values ("1", "none") occur in ordinary text.
_MIN_LENGTH = 8
_remembered: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Return whether a variable or key of this name holds a secret.

    Example:
        >>> is_secret_name("WANDB_API_KEY"), is_secret_name("pad_token_id")
        (True, False)
    """
    return _NAME.search(name) is not None


def remember_secrets(values: Any) -> None:
    """Treat every string in ``values`` (from ``conf/local/credentials.yml``) as a secret from now on."""
    if isinstance(values, Mapping):
        for value in values.values():
            remember_secrets(value)
    elif isinstance(values, str):
        if len(values) >= _MIN_LENGTH:
            _remembered.add(values)
    elif isinstance(values, Iterable) and not isinstance(values, bytes):
        for value in values:
            remember_secrets(value)


def redact(text: str) -> str:
    """Return ``text`` with secrets redacted: those of the environment and the credentials, and known token formats.

    Example:
        >>> redact("postgresql://someone:secret@host/name")
        'postgresql://someone:[redacted]@host/name'
    """
    for value in _known():
        text = text.replace(value, REDACTED)
    for pattern in (_PASSWORD, _QUERY):
        text = pattern.sub(rf"\1{REDACTED}", text)
    return _VALUES.sub(REDACTED, text)


def redact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the secrets in its strings redacted, at any depth."""
    return {name: _redacted(value) for name, value in values.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact_values(value)
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` without entries whose name or value is a secret, at any depth."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            kept[name] = without_secrets(value)
        elif not is_secret_name(str(name)) and redact(str(value)) == str(value):
            kept[name] = value
    return kept


def _known() -> list[str]:
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= _MIN_LENGTH and (is_secret_name(name) or _VARIABLE.search(name))
    }
    # Longest first: one secret may contain another.
    return sorted(found | _remembered, key=len, reverse=True)
