"""Correct the advice of an error for a run whose path in the catalog does not follow ``run.name``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformer_foundry.core.base.errors import FoundryError, find_foundry_error
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["advise_another_path"]


def advise_another_path(error: BaseException, contexts: Sequence[RunContext]) -> None:
    """Let an error that advises ``run.name=NEW`` advise another path, if the name changes none.

    Args:
        error: What has ended the command.
        contexts: The runs of the command.
    """
    found = find_foundry_error(error)
    trained = [context for context in contexts if context.trains]
    if found is None or "run.name=NEW" not in found.remedy or not trained or not all(map(_is_fixed, trained)):
        return
    entries = " and ".join(sorted({entry for context in trained for entry in _entries_of(context)}))
    remedy = re.sub(r"(start|train) another run with run\.name=NEW", rf"\1 another run: {_path(entries)}", found.remedy)
    remedy = remedy.replace("run.name=NEW,run.fork_from=OLD", "another filepath, and the old one as run.fork_from")
    remedy = remedy.replace("run.name=NEW", _path(entries))
    FoundryError.__init__(found, found.problem, found.expected, remedy)


def _path(entries: str) -> str:
    return f"set another filepath of {entries} in conf/"


def _is_fixed(context: RunContext) -> bool:
    """Return whether the folder of the run has not its name in it."""
    name = (context.parameters.get("run") or {}).get("name")
    if context.run is None or context.run_choice is not None:
        return False
    return not name or not any(name in part for part in context.run.folder.parts[-2:])


def _entries_of(context: RunContext) -> list[str]:
    from transformer_foundry.datasets import TrainingRunDataset

    assert context.run is not None
    found = {name: context.catalog.get(name) for name in context.pipeline.datasets()}
    return [
        name
        for name, dataset in found.items()
        if isinstance(dataset, TrainingRunDataset) and dataset.folder == context.run.folder
    ]
