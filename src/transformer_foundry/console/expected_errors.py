"""What a user can mend of the errors that Kedro raises around a file."""

from __future__ import annotations

import errno
import re

from kedro.io import DatasetError

from transformer_foundry.core.base.errors import FoundryError, cause_chain, find_foundry_error

__all__ = ["expected_error"]

_DISK_ERRORS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the quota of the disk is used up, no space is left",
    errno.EFBIG: "the limit on the size of a file is reached, no space is left",
    errno.EROFS: "the disk is read-only",
}


def expected_error(error: BaseException) -> FoundryError | None:
    """Return the expected error in the chain of ``error``, one for a file that cannot be read or written included."""
    return find_foundry_error(error) or _disk_error(error) or _file_error(error)


def _disk_error(error: BaseException) -> FoundryError | None:
    """Return the error for a disk that is full or takes no writing, wherever in the program it was met."""
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
    # safetensors and tokenizers, written in Rust, raise errors of their own that name the system's number.
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
        # Data that is no text or no JSON, or a disk: anything else is a fault of the program.
        elif file and isinstance(current, OSError | ValueError):
            return _explain(file, current, is_saving)
    return None


def _explain(file: str, cause: BaseException, is_saving: bool) -> FoundryError:
    told = f"{type(cause).__name__}: {cause}"[:300]
    if is_saving:
        return FoundryError(
            f"{file} cannot be written: {told}",
            "Expected a folder that can be written, with room on its disk.",
            "Free some space or choose another folder with --params data_dir=PATH, and run the same command again.",
        )
    return FoundryError(
        f"{file} cannot be read: {told}",
        "Expected the file as an earlier command wrote it.",
        "Delete it and run the pipeline that makes it again (kedro run without --pipelines runs all).",
    )
