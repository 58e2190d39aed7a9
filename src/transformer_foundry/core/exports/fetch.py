"""Read an export: a folder, a zip or a gist that holds ``model.py`` and ``config.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_foundry.core.errors import ExportError

__all__ = ["Export", "read_export"]

MODEL_FILE = "model.py"
CONFIG_FILE = "config.json"
MAX_FILE_BYTES = 10 * 2**20


@dataclass(frozen=True)
class Export:
    """An exported model as it was read, before anything in it is run.

    Attributes:
        folder: Local folder that holds ``model.py`` and ``config.json``.
        source: What the user named: a folder, a zip file, a gist id or URL.
        revision: Resolved revision of a gist, None for local files.
        config: Content of ``config.json``.
        model_code: Text of ``model.py``.
        sha256: File name -> sha256 (hex) of the bytes that were read.
    """

    folder: Path
    source: str
    revision: str | None
    config: Mapping[str, Any]
    model_code: str
    sha256: Mapping[str, str]

    @property
    def name(self) -> str:
        """The model's name: ``model_name`` of the configuration, else the folder's name."""
        name = self.config.get("model_name")
        return name if isinstance(name, str) and name else self.folder.name

    @property
    def identity(self) -> str:
        """Sha256 (hex) over both files: what a checkpoint belongs to."""
        text = "".join(f"{name}:{self.sha256[name]}\n" for name in (MODEL_FILE, CONFIG_FILE))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def model_file(self) -> Path:
        """Path of ``model.py``."""
        return self.folder / MODEL_FILE


def read_export(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    api_url: str = "https://api.github.com",
    token: str | None = None,
) -> Export:
    """Read the export that ``source`` names.

    Args:
        source: Folder, zip file, gist id (20 to 40 hexadecimal characters) or gist URL.
        revision: Revision of a gist (40 hexadecimal characters); None means the newest.
        cache_dir: Where the files of a gist or zip are put; a folder of the user's cache when None.
        api_url: Base address of the gist API.
        token: GitHub token; only raises the number of requests allowed an hour.

    Raises:
        ExportError: If the source cannot be read or lacks one of the two files.
    """
    folder = Path(source).expanduser()
    return read_folder(folder, source=str(source), revision=None)


def read_folder(folder: Path, *, source: str, revision: str | None) -> Export:
    """Read the two files of an export from a local folder."""
    if not folder.is_dir():
        raise ExportError(
            f"There is no export at '{source}'.",
            "Expected a folder with model.py and config.json, a zip file, a gist id or a gist URL.",
            "Set model.source to where the export is.",
        )
    content = {name: _read_file(folder / name, source) for name in (MODEL_FILE, CONFIG_FILE)}
    return Export(
        folder=folder,
        source=source,
        revision=revision,
        config=_parse_config(content[CONFIG_FILE]),
        model_code=content[MODEL_FILE].decode("utf-8-sig"),
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    )


def _read_file(path: Path, source: str) -> bytes:
    if not path.is_file():
        raise ExportError(
            f"'{source}' holds no {path.name}.",
            "An export is a folder with model.py and config.json.",
            "Export the model again from Transformer Builder.",
        )
    return path.read_bytes()


def _parse_config(data: bytes) -> dict[str, Any]:
    return dict(json.loads(data))
