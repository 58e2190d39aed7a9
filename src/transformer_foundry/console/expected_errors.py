"""Find the expected error behind an exception, also in errors of Kedro and the system about files."""

from __future__ import annotations

import errno
import re

from kedro.io import DatasetError

from transformer_foundry.core.base.errors import FoundryError, cause_chain, find_foundry_error

__all__ = ["expected_error"]

_DISK_ERRORS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up, no space is left",
    errno.EFBIG: "the file size limit is reached, no space is left",
    errno.EROFS: "the disk is read-only",
}


def expected_error(error: BaseException) -> FoundryError | None:
    """Return the expected error in the chain of ``error``, or one for a file that cannot be read or written."""
    return find_foundry_error(error) or _disk_error(error) or _file_error(error)


def _disk_error(error: BaseException) -> FoundryError | None:
    """Return the error for a full or read-only disk."""
    for current in cause_chain(error):
        number = current.errno if isinstance(current, OSError) else _number_in_text(current)
        if number in _DISK_ERRORS:
            file = current.filename if isinstance(current, OSError) else None
            return FoundryError(
                f"{file or 'A file'} cannot be written: {_DISK_ERRORS[number]}.",
                "Expected free space in data_dir and in the folder of temporary files (TMPDIR).",
                "Free some space or choose another folder with --params data_dir=PATH, and run the same command again.",
            )
    return None


def _number_in_text(error: BaseException) -> int | None:
    # safetensors and tokenizers, written in Rust, put the error number of the system into their message.
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _file_error(error: BaseException) -> FoundryError | None:
    file = ""
    is_saving = False
    for current in cause_chain(error):
        if isinstance(current, DatasetError):
            found = re.search(r"filepath=(?:\w+\()?'?([^,')]+)", str(current))
            file = found[1] if found else file
            is_saving = is_saving or "saving" in str(current)
        # Invalid text or JSON, or a disk error; anything else is a bug.
        elif file and isinstance(current, OSError | ValueError):
            return _explain(file, current, is_saving)
    return None


def _explain(file: str, cause: BaseException, is_saving: bool) -> FoundryError:
    reason = f"{type(cause).__name__}: {cause}"[:300]
    if is_saving:
        return FoundryError(
            f"{file} cannot be written: {reason}",
            "Expected a writable folder with free space.",
            "Free some space or choose another folder with --params data_dir=PATH, and run the same command again.",
        )
    return FoundryError(
        f"{file} cannot be read: {reason}",
        "Expected the file as an earlier command wrote it.",
        "Delete it and run the pipeline that writes it (kedro run without --pipelines runs all).",
    )
