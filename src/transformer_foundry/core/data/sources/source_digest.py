"""The digest of what ``data.source`` names, as far as it can be known without reading the data as rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from transformer_foundry.core.data.options import is_built_in
from transformer_foundry.core.data.sources.folders import skipped_folder
from transformer_foundry.core.data.sources.local_files import looks_like_local_path

__all__ = ["files_digest", "source_digest"]

WHOLE_BYTES = 256 * 2**20
"""Files that are together at most this large are read whole: 0.2 to 0.6 s. Of larger ones blocks are read."""

_BLOCK_BYTES = 2**16
_BLOCKS = WHOLE_BYTES // _BLOCK_BYTES


def source_digest(source: str) -> str | None:
    """Return a digest that changes with the content of ``source``; None for a URL, a dataset of the Hub and an
    empty folder.

    Of more than 256 MiB only sizes, names and evenly spaced blocks count: a change elsewhere is found when the data are
    prepared.

    Args:
        source: ``data.source``.

    Raises:
        OSError: If a file cannot be read.
    """
    if is_built_in(source):
        from transformer_foundry.core.data.sources.built_in.open_text import text_file, text_version

        path, version = text_file(source), text_version(source)
        content = files_digest([path]) if path is not None and path.is_file() else ""
        return hashlib.sha256(f"{version} {content}".encode()).hexdigest()
    if "://" in source or not looks_like_local_path(source):
        return None
    path = Path(source).expanduser()
    if path.is_file():
        return files_digest([path])
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    shown = [file for file in files if skipped_folder(file.relative_to(path)) is None]
    return files_digest(shown) if shown else None


def files_digest(paths: Sequence[Path]) -> str:
    """Return one sha256 over names, sizes and contents of files.

    Raises:
        OSError: If one cannot be read.
    """
    digest = hashlib.sha256()
    sizes = [path.stat().st_size for path in paths]
    blocks = None if sum(sizes) <= WHOLE_BYTES else max(2, _BLOCKS // len(paths))
    for path, size in zip(paths, sizes, strict=True):
        digest.update(f"{path.name}\0{size}\0".encode() + _content_digest(path, size, blocks))
    return digest.hexdigest()


def _content_digest(path: Path, size: int, blocks: int | None) -> bytes:
    with path.open("rb") as file:
        if blocks is None or size <= blocks * _BLOCK_BYTES:
            return hashlib.file_digest(file, "sha256").digest()
        digest, last = hashlib.sha256(), size - _BLOCK_BYTES
        for index in range(blocks):
            file.seek(last * index // (blocks - 1), os.SEEK_SET)
            digest.update(file.read(_BLOCK_BYTES))
        return digest.digest()
