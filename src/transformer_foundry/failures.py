"""What a user can mend of the errors that Kedro raises around a file."""

from __future__ import annotations

import re

from kedro.io import DatasetError

from transformer_foundry.core.errors import FoundryError, find_foundry_error

__all__ = ["expected_error"]


def expected_error(error: BaseException) -> FoundryError | None:
    """Return the expected error in the chain of ``error``, one for a file that cannot be read or written included."""
    return find_foundry_error(error) or _file_error(error)


def _file_error(error: BaseException) -> FoundryError | None:
    seen: set[int] = set()
    current: BaseException | None = error
    file = ""
    is_saving = False
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, DatasetError):
            found = re.search(r"filepath=(?:\w+\()?'?([^,')]+)", str(current))
            file = found[1] if found else file
            is_saving = is_saving or "saving" in str(current)
        # Data that is no text or no JSON, or a disk: anything else is a fault of the program.
        elif file and isinstance(current, OSError | ValueError):
            return _explain(file, current, is_saving)
        current = current.__cause__ or current.__context__
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
