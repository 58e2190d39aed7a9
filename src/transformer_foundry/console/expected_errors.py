"""Find the expected error behind an exception, also in errors of Kedro and the system about files."""

from __future__ import annotations

import errno
import re

from click import ClickException
from kedro.config import MissingConfigException
from kedro.framework.session.abstract_session import KedroSessionError
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from transformer_foundry.core.base.errors import FoundryError, cause_chain, find_foundry_error

__all__ = ["REFUSED_BY_KEDRO", "expected_error"]

REFUSED_BY_KEDRO = "Kedro refuses this: "

_KEDRO_CHECKS = (
    "kedro.config",
    "kedro.framework",
    "kedro.io.catalog_config_resolver",
    "kedro.io.core.from_config",
    "kedro.io.core.parse_dataset_definition",
    "kedro.io.data_catalog",
    "kedro.pipeline",
    "kedro.runner.runner",
)
"""Modules and functions of Kedro that refuse what a user gave; others also run code of nodes and datasets."""
_LONGEST = 300

_SAVING = re.compile(r"([^\s:]+): Failed while saving data to dataset ([\w.]+)\(")

_DISK_ERRORS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up, no space is left",
    errno.EFBIG: "the file size limit is reached, no space is left",
    errno.EROFS: "the disk is read-only",
}


def expected_error(error: BaseException) -> FoundryError | None:
    """Return the expected error in the chain of ``error``, or one for what Kedro or the system refuses."""
    return (
        find_foundry_error(error)
        or _disk_error(error)
        or _file_error(error)
        or _unsuitable_value(error)
        or _kedro_error(error)
    )


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


def _unsuitable_value(error: BaseException) -> FoundryError | None:
    """Return the error for a value that the type of its entry cannot keep: a picture of another library, a mapping."""
    chain = list(cause_chain(error))
    # Kedro puts the name of the entry before the text of the dataset.
    found = next(filter(None, (_SAVING.match(str(item)) for item in chain if isinstance(item, DatasetError))), None)
    if found is None or not isinstance(chain[-1], AttributeError | TypeError):
        return None
    name, kind = found[1], found[2].rpartition(".")[2]
    return FoundryError(
        f"{name} of the catalog cannot keep what the node returned: {str(chain[-1])[:_LONGEST]}.",
        f"Expected a value that {kind} keeps, the type of its entry or of a pattern that fits its name.",
        f"Give {name} an entry with another type in conf/local/catalog.yml, or its output another name.",
    )


def _kedro_error(error: BaseException) -> FoundryError | None:
    """Return the error for configuration or options that Kedro refuses; a bug within a node is none."""
    for current in cause_chain(error):
        is_config = isinstance(current, MissingConfigException | YAMLError | OmegaConfBaseException)
        is_refusal = isinstance(
            current, ClickException | ValueError | LookupError | KedroSessionError | DatasetError
        ) and (_raised_in(current).startswith(_KEDRO_CHECKS))
        if is_config or is_refusal or isinstance(current, ParameterValidationError):
            text = current.format_message() if isinstance(current, ClickException) else str(current)
            return FoundryError(
                f"{REFUSED_BY_KEDRO}{' '.join(text.split())[:_LONGEST]}",
                "Expected configuration in conf/ and options that Kedro accepts.",
                "Correct them; FOUNDRY_DEBUG=1 shows where this comes from.",
            )
    return None


def _raised_in(error: BaseException) -> str:
    """Return the dotted name of the function that raised an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}.{trace.tb_frame.f_code.co_name}"


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
