"""Add programs that serve the model without torch to a package: a script, a server, and a page for browsers."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import DeploymentError, error_message
from transformer_foundry.core.publishing.package import npm_files

__all__ = ["PAGE_FILE", "add_programs", "onnx_files"]

_LOGGER = logging.getLogger(__name__)

PAGE_FILE = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"
_REQUIREMENTS = "requirements.txt"
_INFERENCE = ("inference.py", "text_encoding.py", "text_generation.py", "verify_files.py", _REQUIREMENTS)
_SERVER = tuple(
    f"server/{name}"
    for name in (
        "server.py", "server_limits.py", "server_metrics.py", "server_openai.py", "server_pages.py", "Dockerfile"
    )
)  # fmt: skip
_PAGE = (PAGE_FILE, "page.js", "model.js")
# A browser keeps the file and a copy of it in 4 GB of memory.
_LARGEST_IN_BROWSER = 10**9


def onnx_files(manifest: Mapping[str, Any]) -> list[str]:
    """Return the names of the verified ONNX files of a package."""
    return [entry["file"] for entry in manifest["formats"] if str(entry.get("file")).endswith(".onnx")]


def add_programs(
    folder: Path, manifest: Mapping[str, Any], *, page: bool = True, cache: Path | None = None
) -> list[dict[str, Any]]:
    """Copy the programs into the package, and return what was added, or left out for what reason.

    Args:
        folder: The package.
        manifest: Its manifest; only ``formats`` and ``encoding`` are read.
        page: Whether to add the page for browsers.
        cache: Where third-party scripts of the page are kept; by default in the user's cache.

    Returns:
        For each of ``inference``, ``server`` and ``page``: ``part``, ``status`` (``made`` or ``left out``) and
        either ``files`` or ``reason``; for the page also ``vendored``, its third-party scripts.
    """
    if not onnx_files(manifest):
        reason = "there is no verified ONNX file"
        return [{"part": name, "status": "left out", "reason": reason} for name in ("inference", "server", "page")]
    parts = [_copy("inference", folder, _INFERENCE), _copy("server", folder, _SERVER)]
    reason = "deployment.page is false" if not page else _browser_limit(manifest)
    if not reason:
        try:
            parts.append(_add_page(folder, cache))
        except DeploymentError as err:
            reason = error_message(err)
            _LOGGER.warning("The package has no page: %s", reason)
    return parts if not reason else [*parts, {"part": "page", "status": "left out", "reason": reason}]


def _copy(part: str, folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Copy templates; a package has all of them in its own folder."""
    files = [_TEMPLATES / name for name in names]
    for path in files:
        shutil.copyfile(path, folder / path.name)
        if path.name == _REQUIREMENTS:
            (folder / path.name).write_text(_pinned(path.read_text(encoding="utf-8")), encoding="utf-8")
    return {"part": part, "status": "made", "files": [path.name for path in files]}


def _pinned(requirements: str) -> str:
    """Return requirements with the versions that the package was verified with, where they are installed."""
    lines = ["# The versions that this package was verified with; the ranges that should work are behind them."]
    for line in requirements.splitlines():
        name = re.split(r"[<>=]", line)[0]
        try:
            version = "" if line.startswith("#") else importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            version = ""
        lines.append(f"{name}=={version}  # {line.removeprefix(name)}" if version else line)
    return "\n".join(lines) + "\n"


def _browser_limit(manifest: Mapping[str, Any]) -> str:
    """Return why a browser cannot run the model, an empty string if it can."""
    if manifest.get("encoding", {}).get("reads_pairs"):
        return "the page takes one text, and the model reads two"
    names = onnx_files(manifest)
    smallest = min(entry["size_bytes"] for entry in manifest["formats"] if entry.get("file") in names)
    return f"the smallest ONNX file has {smallest:,} bytes" if smallest > _LARGEST_IN_BROWSER else ""


def _add_page(folder: Path, cache: Path | None) -> dict[str, Any]:
    scripts = npm_files.page_scripts(cache)
    for path in scripts:
        shutil.copyfile(path, folder / path.name)
    vendored = [{"name": item.name, "version": item.version, "license": item.license} for item in npm_files.ARCHIVES]
    copied = _copy("page", folder, _PAGE)
    return copied | {"files": [*copied["files"], *(path.name for path in scripts)], "vendored": vendored}
