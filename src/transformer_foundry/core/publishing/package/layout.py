"""Names and digests of the files of a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformer_foundry.core.export.names import MANIFEST_FILE
from transformer_foundry.core.files.atomic import sha256_of

__all__ = ["CARD_FILE", "list_files"]

CARD_FILE = "README.md"


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``sha256`` and ``size_bytes`` of every file in ``folder`` but the manifest, by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_FILE)
    return {path.name: {"sha256": sha256_of(path), "size_bytes": path.stat().st_size} for path in files}
