"""What a dataset holds from an earlier command, if anything."""

from __future__ import annotations

import logging
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from transformer_foundry.core.base.errors import error_message, find_foundry_error
from transformer_foundry.core.files.provenance import has_changed

__all__ = ["load_earlier"]

_log = logging.getLogger(__name__)


def load_earlier(dataset: AbstractDataset[Any, Any], name: str) -> Any:
    """Return what a dataset holds; None if it is missing, or damaged or changed, which is logged: it is made again.

    Args:
        dataset: A dataset of this project, of Kedro or of another package.
        name: Name of its catalog entry.

    Raises:
        FoundryError: If it is unknown what is there: a server does not answer, or credentials are wrong.
    """
    found = _load_if_readable(dataset, name)
    if has_changed(found):
        _log.info("%s of an earlier command has changed since it was written, and is not used.", name)
        return None
    return found


def _load_if_readable(dataset: AbstractDataset[Any, Any], name: str) -> Any:
    if hasattr(dataset, "load_if_whole"):
        return dataset.load_if_whole()
    if not dataset.exists():
        return None
    try:
        return dataset.load()
    except DatasetError as err:
        if find_foundry_error(err) is not None:
            raise
        _log.info("%s of an earlier command cannot be read and is made again: %s", name, error_message(err))
        return None
