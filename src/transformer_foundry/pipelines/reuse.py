"""What results of earlier commands are reused: those that were made from what would be used now.

A costly node reads ``earlier_results``: what its own outputs hold from an earlier command. It returns that if it still
fits. The hooks give it to each node; without them it is None, and everything is made again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from transformer_foundry.core.base.text import format_age
from transformer_foundry.core.files.provenance import (
    CODE_VERSION,
    Origin,
    difference_text,
    is_made_from,
    origin_of,
    settings_text,
)
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["EarlierResults", "contract_origin", "earlier_of", "is_up_to_date", "say_up_to_date"]

_log = logging.getLogger(__name__)

EarlierResults: TypeAlias = Sequence[Any] | None
"""What the outputs of a node hold, in their order, each None if it is missing or damaged; None if nothing is known."""


def earlier_of(results: EarlierResults, *positions: int) -> tuple[Any, ...]:
    """Return the earlier results of the outputs at ``positions``, of the first one by default.

    Only those are read.

    Example:
        >>> earlier_of(["report", None], 0, 1), earlier_of(None)
        (('report', None), (None,))
    """
    return tuple(None if results is None else results[position] for position in positions or (0,))


def is_up_to_date(
    previous: Mapping[str, Any],
    origin: Origin,
    stage: str = "",
    what: str = "",
    made: Path | datetime | None = None,
) -> bool:
    """Return whether an earlier result was made from ``origin``; log one line that says so, or why it is made again.

    Args:
        previous: The earlier result, or the manifest of the earlier folder.
        origin: What the result would be made from now.
        stage: What the line begins with, such as "validation"; empty logs nothing.
        what: What is up to date.
        made: When it was made, or a file that was written then and is not written again; None if unknown.
    """
    fits = is_made_from(previous, origin)
    if stage and fits:
        say_up_to_date(stage, what, made)
    elif stage:
        _log.info("%s: made again, because of %s.", stage, difference_text(origin, origin_of(previous)))
    return fits


def say_up_to_date(stage: str, what: str, made: Path | datetime | None) -> None:
    """Log that a result of an earlier command is used again; the arguments are those of ``is_up_to_date``."""
    if made is not None:
        with contextlib.suppress(OSError):  # a file that is gone says nothing
            made_at = made.stat().st_mtime if isinstance(made, Path) else made.timestamp()
            what = f"{what}, made {format_age(time.time() - made_at)}"
    _log.info("%s: up to date (%s).", stage, what)


def contract_origin(export: ModelSource, model: ModelOptions) -> Origin:
    """Return what the contract of a model is made from."""
    settings = {"kind": model.kind, "task": model.task}
    return {"model": export.identity, "parameters": settings_text(settings), "code": CODE_VERSION}
