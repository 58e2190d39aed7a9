"""Download the two files of an export from a GitHub gist, using only the standard library."""

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
    missing_files,
    too_large,
    write_cache,
)
from transformer_foundry.core.models.source.download import DownloadFailure, Downloads
from transformer_foundry.core.models.source.support_modules import collect_support

__all__ = ["DEFAULT_API_URL", "Gist", "fetch_gist", "parse_gist"]

DEFAULT_API_URL = "https://api.github.com"
GIST_HOSTS = ("gist.github.com", "api.github.com", "gist.githubusercontent.com")
RAW_HOSTS = (*GIST_HOSTS, "raw.githubusercontent.com")
GIST_ID = re.compile(r"[0-9a-f]{20,40}")
REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Gist:
    """A gist, and its revision if it is pinned.

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
        revision: A revision given separately; it takes precedence over one in the URL.

    Raises:
        ModelError: If the revision is invalid, or a URL is not that of a gist.

    Example:
        >>> parse_gist("https://gist.github.com/someone/0123456789abcdef0123456789abcdef")
        Gist(id='0123456789abcdef0123456789abcdef', revision=None)
    """
    is_url = "://" in source
    if is_url and not (_host(source) in GIST_HOSTS and source.lower().startswith(("http://", "https://"))):
        raise ModelError(
            f"'{source[:200]}' is not the URL of a gist.",
            "Expected https://gist.github.com/USER/ID.",
            "Set model.source to the URL of a public gist, a gist id, a folder or a zip file.",
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
            "Copy it from the page of the gist (Revisions), or remove model.revision to use the newest.",
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
    """Download the files of ``gist`` to the cache, and return their folder and the revision.

    A pinned revision in the cache needs no network.

    Args:
        gist: The gist.
        cache_dir: Folder of the cache; the files are written to ``gist/ID/REVISION``.
        api_url: Base URL of the API.
        token: GitHub token, sent only to the API.
        downloads: Settings of the requests; by default with retries and back-off.

    Raises:
        ModelError: If the gist does not exist, GitHub refuses or cannot be reached, or a file is missing.
    """
    home = cache_dir / "gist" / gist.id
    if gist.revision is not None and cached_folder(home / gist.revision) is not None:
        return home / gist.revision, gist.revision
    downloads = downloads or Downloads()
    path = f"/gists/{gist.id}" + (f"/{gist.revision}" if gist.revision else "")
    try:
        response = _parse_response(downloads.get(api_url.rstrip("/") + path, token=token), gist)
        files = _files(response, gist)
        content = {name: _content(files[name], name, downloads, api_url, gist) for name in (MODEL_FILE, CONFIG_FILE)}

        def read(name: str) -> bytes | None:
            return _content(files[name], name, downloads, api_url, gist) if name in files else None

        content |= collect_support(content[MODEL_FILE], read)
    except DownloadFailure as failure:
        raise _download_error(failure, gist, token) from failure
    revision = gist.revision or _newest_revision(response)
    return write_cache(home / (revision or "unknown-revision"), content), revision


def _parse_response(data: bytes, gist: Gist) -> Mapping[str, Any]:
    try:
        response = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise _bad_response(gist, "it is not JSON") from err
    if not isinstance(response, dict):
        raise _bad_response(gist, f"it is a {type(response).__name__}")
    return response


def _files(response: Mapping[str, Any], gist: Gist) -> Mapping[str, Mapping[str, Any]]:
    listed = response.get("files")
    files = {name: file for name, file in listed.items() if isinstance(file, dict)} if isinstance(listed, dict) else {}
    missing = [name for name in (MODEL_FILE, CONFIG_FILE) if name not in files]
    if missing:
        raise missing_files(f"Gist {gist.id}", missing, files)
    return files


def _content(file: Mapping[str, Any], name: str, downloads: Downloads, api_url: str, gist: Gist) -> bytes:
    size = file.get("size")
    if isinstance(size, int) and size > MAX_FILE_BYTES:
        raise too_large(f"{name} of gist {gist.id}", size)
    if file.get("truncated"):
        return _raw_content(file, name, downloads, api_url, gist)
    content = file.get("content")
    if not isinstance(content, str):
        raise _bad_response(gist, f"{name} has no content")
    if file.get("encoding") == "base64":
        try:
            return base64.b64decode(content)
        except ValueError as err:
            raise _bad_response(gist, f"{name} is not valid base64") from err
    return content.encode("utf-8", errors="surrogatepass")


def _raw_content(file: Mapping[str, Any], name: str, downloads: Downloads, api_url: str, gist: Gist) -> bytes:
    """Return the whole of a file that the API has truncated (at 1 MB); the token is not sent there."""
    url = str(file.get("raw_url"))
    # Check the scheme too: urllib would also open file: and ftp: URLs.
    if not (url.startswith("https://") and _host(url) in RAW_HOSTS) and _origin(url) != _origin(api_url):
        raise _bad_response(gist, f"{name} is at {_host(url)}, which is not GitHub")
    data = downloads.get(url)
    size = file.get("size")
    if isinstance(size, int) and len(data) != size:
        raise _bad_response(gist, f"{name} has {len(data)} bytes instead of {size}")
    return data


def _newest_revision(response: Mapping[str, Any]) -> str | None:
    history = response.get("history")
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


def _download_error(failure: DownloadFailure, gist: Gist, token: str | None) -> ModelError:
    which = f"gist {gist.id}" + (f" at revision {gist.revision}" if gist.revision else "")
    if failure.status in (404, 410, 422):
        return ModelError(
            f"GitHub has no {which}.",
            "Expected the id of a public gist, and a revision of that gist if one is given.",
            "Check model.source and model.revision; open https://gist.github.com/ID in a browser.",
        )
    if failure.status == 401:
        return ModelError(
            f"GitHub rejects the token (status 401) for {which}.",
            "Expected a valid GitHub token, or none: public gists need none.",
            "Renew GITHUB_TOKEN, or unset it.",
        )
    if failure.is_rate_limit:
        hint = "" if token else ", or set GITHUB_TOKEN, which allows 5,000 requests per hour"
        return ModelError(
            f"GitHub's rate limit is exceeded (status {failure.status}) for {which}.",
            "Without a token, 60 requests per hour are allowed.",
            f"Try again in {failure.minutes_to_wait} minutes{hint}.",
        )
    return ModelError(
        f"{which[0].upper()}{which[1:]} cannot be downloaded: {failure}.",
        f"Expected a response from GitHub; attempts: {failure.attempts}.",
        "Check the network and try again, or download the gist and set model.source to its folder.",
    )


def _bad_response(gist: Gist, what: str) -> ModelError:
    return ModelError(
        f"The response for gist {gist.id} cannot be used: {what}.",
        "Expected a response of GitHub's gist API.",
        "Try again later, or download the gist and set model.source to its folder.",
    )
