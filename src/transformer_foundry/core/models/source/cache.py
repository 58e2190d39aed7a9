"""Names and limits of the files of an export, and the cache of downloaded and unpacked exports."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.files.atomic import replace_file, sha256_of

__all__ = [
    "CONFIG_FILE",
    "MAX_FILE_BYTES",
    "MODEL_FILE",
    "PACKAGED_CONFIG_FILE",
    "cached_folder",
    "default_cache",
    "missing_files",
    "too_large",
    "write_cache",
]

MODEL_FILE = "model.py"
CONFIG_FILE = "config.json"
PACKAGED_CONFIG_FILE = "export_config.json"
"""The model's own ``config.json`` in a package, where transformers uses that name."""
# The largest file that GitHub accepts in a gist; a model's code has a few hundred kilobytes.
MAX_FILE_BYTES = 10 * 2**20
CHECKSUMS_FILE = "sha256.json"


def default_cache() -> Path:
    """Return the folder of the cache: ``FOUNDRY_CACHE``, or a folder in the user's cache."""
    own = os.environ.get("FOUNDRY_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(own) if own else Path(root) / "transformer-foundry" / "exports"


def cached_folder(folder: Path) -> Path | None:
    """Return ``folder`` if it holds a complete, undamaged export, otherwise None."""
    try:
        expected = json.loads((folder / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        intact = all(sha256_of(folder / name) == expected[name] for name in {MODEL_FILE, CONFIG_FILE, *expected})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return folder if intact else None


def write_cache(folder: Path, content: Mapping[str, bytes]) -> Path:
    """Write the files of an export to ``folder``, their checksums last: without those the cache entry is ignored.

    Raises:
        ModelError: If the folder cannot be written.
    """
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in [*content.items(), (CHECKSUMS_FILE, json.dumps(checksums).encode())]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, data, is_shared=True)
    except OSError as err:
        raise ModelError(
            f"The export cannot be written to the cache folder {folder}: {err.strerror or err}.",
            "Expected a writable folder with space for two small files.",
            "Free disk space there, or set FOUNDRY_CACHE to another folder.",
        ) from err
    return folder


def missing_files(source: str, missing: Sequence[str], found: Iterable[str]) -> ModelError:
    """Return the error for a source without some of the files of an export."""
    return ModelError(
        f"{source} has no {' and no '.join(missing)}.",
        f"Expected model.py and config.json; found {', '.join(sorted(found)[:8]) or 'nothing'}.",
        "Put what is missing there (config.json may be {} if the constructor needs nothing), or set model.source to "
        "another folder or gist.",
    )


def too_large(file: str, size_bytes: int) -> ModelError:
    """Return the error for a file that exceeds ``MAX_FILE_BYTES``."""
    return ModelError(
        f"{file} has {size_bytes / 2**20:.0f} MiB.",
        f"Expected at most {MAX_FILE_BYTES // 2**20} MiB: an export has code and sizes, but no weights.",
        "Leave weights and data out of it.",
    )
