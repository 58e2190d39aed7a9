"""Fill a new model with the weights that ``model.init_from`` names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training.checkpointing.state import TrainingState
from transformer_foundry.core.training.pretrained.source import read_weight_source
from transformer_foundry.core.training.pretrained.transfer import transfer_weights

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["load_initial_weights"]

_log = logging.getLogger(__name__)


def load_initial_weights(
    adapter: Adapter,
    init_from: str | None,
    *,
    state: TrainingState | None,
    manifest: Mapping[str, Any],
    runs_folder: Path,
    vocabulary: str = "",
) -> dict[str, Any]:
    """Load the weights that ``init_from`` names into a new model; a resumed run no longer needs them.

    Args:
        adapter: The model.
        init_from: ``model.init_from``.
        state: The checkpoint of a resumed run; None for a new run.
        manifest: The run's manifest, written by earlier sessions.
        runs_folder: Folder of all runs.
        vocabulary: Digest of the tokens it will be trained on.

    Returns:
        Entries for the run's manifest: ``init_from`` with source, sha256 and the names of all tensors; empty for a run
        that starts with random weights.

    Raises:
        CheckpointError: If the source cannot be used, or differs from the one that the run started with.
    """
    if state is not None:
        return _of_earlier_sessions(init_from, state, manifest)
    if init_from is None:
        return {}
    source = read_weight_source(init_from, runs_folder)
    transfer = transfer_weights(adapter, source, vocabulary)
    _log.info(transfer.line(source))
    return {"init_from": transfer.describe(source)}


def _of_earlier_sessions(init_from: str | None, state: TrainingState, manifest: Mapping[str, Any]) -> dict[str, Any]:
    if state.forked_from and init_from is not None:
        raise CheckpointError(
            f"Both run.fork_from ({state.forked_from}) and model.init_from ({init_from}) say what the run begins with.",
            "A fork begins with a whole checkpoint, init_from with weights only.",
            "Leave one of them out.",
        )
    begun_with = {} if state.forked_from else manifest.get("init_from", {})
    if init_from is not None and begun_with.get("source") != init_from:
        began = f"the weights of {begun_with['source']}" if begun_with else "weights of its own"
        raise CheckpointError(
            f"model.init_from is {init_from!r}, but the run began with {began} and is at step {state.step}.",
            "A resumed run keeps its weights.",
            "Leave model.init_from as it was, or start another run with run.name=NEW.",
        )
    return {"init_from": begun_with} if begun_with else {}
