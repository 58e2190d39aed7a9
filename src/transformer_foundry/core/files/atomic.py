"""Write files durably and atomically, and compute their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.files.plain_files import file_opener, plain_opener

__all__ = [
    "check_writable",
    "copy_file",
    "make_folder",
    "replace_file",
    "sha256_of",
    "sync",
    "write_json",
    "write_text",
    "write_when_there_is_space",
]

_log = logging.getLogger(__name__)

SPACE_PATIENCE_S = 30.0
"""How long a write waits for space: other programs' temporary files come and go."""

_SPACE_POLL_S = 0.5
_BUFFER_BYTES = 1 << 20


def sync(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, root: Path | None = None) -> None:
    """Create ``folder`` and its missing parents durably.

    Args:
        folder: The folder.
        root: A folder above it that is never made, nor what lies above it: a mount may vanish at any moment.

    Raises:
        OSError: If it cannot be made, or ``root`` is missing.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    if root is not None:
        missing = [path for path in missing if root in path.parents]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` durably.

    Raises:
        OSError: If it cannot be written, or ``path`` is a link.
    """
    _write(path, text, "wb")


def replace_file(path: Path, content: str | bytes, *, is_shared: bool = False) -> None:
    """Write ``content`` to ``path`` durably; a kill leaves the old content or the new, never a part of either.

    Args:
        path: The file.
        content: Its new content; text is written as UTF-8.
        is_shared: Whether other processes may replace the same file at the same time; the last one wins.
    """
    temporary = path.with_name(f"{path.name}.new{os.getpid() if is_shared else ''}")
    try:
        temporary.unlink(missing_ok=True)  # left by a kill
        _write(temporary, content, "xb")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_when_there_is_space(write: Callable[[], None], place: Path) -> None:
    """Call ``write``, again and again for half a minute while the disk is full.

    Args:
        write: Writes something, or nothing if it raises.
        place: Where, for the warning.

    Raises:
        Exception: What ``write`` raises for another reason, or after that time.
    """
    deadline = time.monotonic() + SPACE_PATIENCE_S
    is_warned = False
    while True:
        try:
            return write()
        except Exception as err:  # libraries wrap the error of a full disk in their own
            if not _is_full(err) or time.monotonic() > deadline:
                raise
        if not is_warned:
            _log.warning("The disk of %s is full: waiting up to %.0f s for space ...", place, SPACE_PATIENCE_S)
            is_warned = True
        time.sleep(_SPACE_POLL_S)


def _is_full(err: BaseException | None) -> bool:
    # safetensors passes on the text of an error, not its number.
    if isinstance(err, OSError) and (
        err.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) or "No space left on device" in str(err)
    ):
        return True
    return err is not None and _is_full(err.__cause__)


def check_writable(folder: Path, root: Path | None = None) -> None:
    """Create ``folder`` and write a file into it for a moment; ``root`` as in ``make_folder``.

    Raises:
        OSError: If that fails.
    """
    make_folder(folder, root)
    probe = folder / f".write-test-{os.getpid()}"
    probe.unlink(missing_ok=True)
    _write(probe, b"x", "xb")
    probe.unlink()


def copy_file(source: Path, target: Path, root: Path | None = None) -> None:
    """Copy one file durably; ``root`` as in ``make_folder``.

    Raises:
        OSError: If it cannot be read or written, or one of the two is a link.
    """
    make_folder(target.parent, root)
    with open(source, "rb", opener=plain_opener) as read, open(target, "wb", opener=plain_opener) as written:
        shutil.copyfileobj(read, written, _BUFFER_BYTES)
        written.flush()
        os.fsync(written.fileno())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal; a link is followed.

    Raises:
        OSError: If it cannot be read, or is no plain file.
    """
    with open(path, "rb", opener=file_opener) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as strict JSON, without secrets.

    Raises:
        ValueError: If a number is infinite or NaN.
    """
    text = json.dumps(redact_texts(content), indent=2, allow_nan=False) + "\n"
    with open(path, "w", encoding="utf-8", opener=plain_opener) as file:
        file.write(text)


def _write(path: Path, content: str | bytes, mode: Literal["wb", "xb"]) -> None:
    with open(path, mode, opener=plain_opener) as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
