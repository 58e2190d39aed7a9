"""Fetch the two files of an export from a GitHub gist, with the standard library alone."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.source.cache import (
    CONFIG_FILE,
    MAX_FILE_BYTES,
    MODEL_FILE,
    cached_folder,
    write_cache,
)
from transformer_foundry.core.models.source.download import DownloadFailure, Downloads

__all__ = ["DEFAULT_API_URL", "Gist", "fetch_gist", "parse_gist"]

DEFAULT_API_URL = "https://api.github.com"
GIST_HOSTS = ("gist.github.com", "api.github.com", "gist.githubusercontent.com")
RAW_HOSTS = (*GIST_HOSTS, "raw.githubusercontent.com")
GIST_ID = re.compile(r"[0-9a-f]{20,40}")
REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Gist:
    """A gist and, if it is pinned, its revision.

    Attributes:
        id: 20 to 40 hexadecimal characters.
        revision: 40 hexadecimal characters, None for the newest.
    """

    id: str
    revision: str | None = None


def parse_gist(source: str, revision: str | None = None) -> Gist | None:
    """Return the gist that ``source`` names: an id, ``id/revision`` or a URL; None if it names none.

    Args:
        source: What the user gave.
        revision: A revision given separately; it goes before one in the URL.

    Raises:
        ModelError: If the revision is none, or a URL leads elsewhere than to a gist.

    Example:
        >>> parse_gist("https://gist.github.com/someone/0123456789abcdef0123456789abcdef")
        Gist(id='0123456789abcdef0123456789abcdef', revision=None)
    """
    is_url = "://" in source
    if is_url and not (_host(source) in GIST_HOSTS and source.lower().startswith(("http://", "https://"))):
        raise ModelError(
            f"'{source[:200]}' is no address of a gist.",
            "Expected https://gist.github.com/USER/ID.",
            "Set model.source to the address of a public gist, a gist id, a folder or a zip file.",
        )
    parts = [part for part in urlsplit(source).path.split("/") if part] if is_url else source.split("/")
    numbers = [part.lower() for part in parts if GIST_ID.fullmatch(part.lower())]
    if not numbers or (not is_url and len(numbers) != len(parts)):
        return None
    in_source = numbers[1] if len(numbers) > 1 and REVISION.fullmatch(numbers[1]) else None
    pinned = revision.strip().lower() if revision else in_source
    if pinned is not None and not REVISION.fullmatch(pinned):
        raise ModelError(
            f"model.revision is '{revision}'.",
            "Expected the 40 hexadecimal characters of a gist's revision.",
            "Copy it from the gist's page (Revisions), or leave model.revision out for the newest.",
        )
    return Gist(numbers[0], pinned)


def fetch_gist(
    gist: Gist,
    cache_dir: Path,
    *,
    api_url: str = DEFAULT_API_URL,
    token: str | None = None,
    downloads: Downloads | None = None,
) -> tuple[Path, str | None]:
    """Put the files of ``gist`` into the cache and return their folder and the revision.

    A pinned revision that is in the cache needs no network.

    Args:
        gist: The gist.
        cache_dir: Folder of the cache; the files go to ``gist/ID/REVISION``.
        api_url: Base address of the API.
        token: GitHub token, sent to the API only.
        downloads: How requests are made; with retries and back-off by default.

    Raises:
        ModelError: If there is no such gist, GitHub refuses or cannot be reached, or a file is missing.
    """
    home = cache_dir / "gist" / gist.id
    if gist.revision is not None and cached_folder(home / gist.revision) is not None:
        return home / gist.revision, gist.revision
    downloads = downloads or Downloads()
    path = f"/gists/{gist.id}" + (f"/{gist.revision}" if gist.revision else "")
    try:
        answer = _parse_answer(downloads.get(api_url.rstrip("/") + path, token=token), gist)
        files = _files(answer, gist)
        content = {name: _content(files[name], name, downloads, api_url, gist) for name in (MODEL_FILE, CONFIG_FILE)}
    except DownloadFailure as failure:
        raise _explain(failure, gist, token) from failure
    revision = gist.revision or _newest_revision(answer)
    return write_cache(home / (revision or "unknown-revision"), content), revision


def _parse_answer(data: bytes, gist: Gist) -> Mapping[str, Any]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise _strange_answer(gist, "it is no JSON") from err
    if not isinstance(answer, dict):
        raise _strange_answer(gist, f"it is a {type(answer).__name__}")
    return answer


def _files(answer: Mapping[str, Any], gist: Gist) -> Mapping[str, Mapping[str, Any]]:
    listed = answer.get("files")
    files = {name: file for name, file in listed.items() if isinstance(file, dict)} if isinstance(listed, dict) else {}
    missing = [name for name in (MODEL_FILE, CONFIG_FILE) if name not in files]
    if missing:
        raise ModelError(
            f"Gist {gist.id} holds no {' and no '.join(missing)}.",
            f"Expected model.py and config.json; it holds {', '.join(sorted(files)[:8]) or 'nothing'}.",
            "Export the model again from Transformer Builder, or set model.source to another gist.",
        )
    return files


def _content(file: Mapping[str, Any], name: str, downloads: Downloads, api_url: str, gist: Gist) -> bytes:
    size = file.get("size")
    if isinstance(size, int) and size > MAX_FILE_BYTES:
        raise _too_large(gist, name, size)
    if file.get("truncated"):
        return _raw_content(file, name, downloads, api_url, gist)
    content = file.get("content")
    if not isinstance(content, str):
        raise _strange_answer(gist, f"{name} has no content")
    if file.get("encoding") == "base64":
        try:
            return base64.b64decode(content)
        except ValueError as err:
            raise _strange_answer(gist, f"{name} is no base64") from err
    return content.encode("utf-8", errors="surrogatepass")


def _raw_content(file: Mapping[str, Any], name: str, downloads: Downloads, api_url: str, gist: Gist) -> bytes:
    """The whole of a file that the API has cut (at 1 MB); the token is not sent there."""
    url = str(file.get("raw_url"))
    # The scheme too: urllib would also read file: and ftp: addresses.
    if not (url.startswith("https://") and _host(url) in RAW_HOSTS) and _origin(url) != _origin(api_url):
        raise _strange_answer(gist, f"{name} is to be had from {_host(url)}, which is not GitHub")
    data = downloads.get(url)
    size = file.get("size")
    if isinstance(size, int) and len(data) != size:
        raise _strange_answer(gist, f"{name} should have {size} bytes and came with {len(data)}")
    return data


def _newest_revision(answer: Mapping[str, Any]) -> str | None:
    history = answer.get("history")
    newest = history[0] if isinstance(history, list) and history else None
    version = newest.get("version") if isinstance(newest, dict) else None
    return version if isinstance(version, str) and REVISION.fullmatch(version) else None


def _origin(url: str) -> tuple[str, str] | None:
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return None


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _explain(failure: DownloadFailure, gist: Gist, token: str | None) -> ModelError:
    which = f"gist {gist.id}" + (f" at revision {gist.revision}" if gist.revision else "")
    if failure.status in (404, 410, 422):
        return ModelError(
            f"GitHub has no {which}.",
            "Expected the id of a public gist, and a revision of that gist if one is given.",
            "Check model.source and model.revision: open https://gist.github.com/ID in a browser.",
        )
    if failure.status == 401:
        return ModelError(
            f"GitHub does not accept the token (answer 401) for {which}.",
            "Expected a valid GitHub token, or none: public gists need none.",
            "Renew or unset GITHUB_TOKEN.",
        )
    if failure.is_rate_limit:
        hint = "" if token else ", or set GITHUB_TOKEN: it allows 5,000 requests an hour"
        return ModelError(
            f"GitHub's limit of requests is used up (answer {failure.status}) for {which}.",
            "60 requests an hour are allowed without a token.",
            f"Try again in {failure.minutes_to_wait} minutes{hint}.",
        )
    return ModelError(
        f"{which[0].upper()}{which[1:]} cannot be fetched: {failure}.",
        f"Expected an answer from GitHub; number of attempts made: {failure.attempts}.",
        "Check the network and try again, or download the gist and set model.source to its folder.",
    )


def _too_large(gist: Gist, name: str, size: int) -> ModelError:
    return ModelError(
        f"{name} of gist {gist.id} has {size / 2**20:.0f} MiB.",
        f"Expected at most {MAX_FILE_BYTES // 2**20} MiB: an export is code and sizes, without weights.",
        "Export the model again from Transformer Builder.",
    )


def _strange_answer(gist: Gist, what: str) -> ModelError:
    return ModelError(
        f"The answer for gist {gist.id} cannot be used: {what}.",
        "Expected the answer of GitHub's gist API.",
        "Try again later, or download the gist and set model.source to its folder.",
    )
