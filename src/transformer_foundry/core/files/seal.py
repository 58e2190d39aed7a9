"""A seal beside the files of a folder: their digests, in a file of its own name, for folders whose names others fix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from transformer_foundry.core.files.atomic import replace_file
from transformer_foundry.core.files.digests import sha256_once

__all__ = ["SEAL_FILE", "broken_file", "remove_seal", "write_seal"]

SEAL_FILE = "seal.json"


def write_seal(folder: Path, names: Sequence[str]) -> None:
    """Write the sha256 of the files ``names`` of ``folder``; the last thing that is written there.

    Raises:
        OSError: If a file cannot be read, or the seal not be written.
    """
    digests = {name: sha256_once(folder / name) for name in sorted(names)}
    replace_file(folder / SEAL_FILE, json.dumps(digests, indent=2) + "\n")


def remove_seal(folder: Path) -> None:
    """Remove the seal: the files are about to change."""
    (folder / SEAL_FILE).unlink(missing_ok=True)


def broken_file(folder: Path) -> Path | None:
    """Return the first file that differs from what was sealed; None if all are whole, or nothing was sealed."""
    seal = folder / SEAL_FILE
    if not seal.is_file():
        return None
    try:
        digests = json.loads(seal.read_text(encoding="utf-8"))
        paths = {folder / name: str(digest) for name, digest in digests.items()}
        return next((path for path, digest in paths.items() if sha256_once(path) != digest), None)
    except (OSError, ValueError, AttributeError, RecursionError):
        return seal
