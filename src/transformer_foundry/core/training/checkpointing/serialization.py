"""A ``TrainingState`` as files: tensors as safetensors, everything else as JSON, no pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from transformer_foundry.core.files.atomic import sync, write_text
from transformer_foundry.core.system.random_state import RandomState
from transformer_foundry.core.training.checkpointing.state import (
    CheckpointedState,
    LoopState,
    LossStatistics,
    LossWindow,
    RunDecisions,
    TimePlan,
    TrainingState,
)
from transformer_foundry.core.training.optim.optimizers import OptimizerState

__all__ = ["OPTIMIZER_FILE", "STATE_FILE", "WEIGHTS_FILE", "read_checkpointed", "read_state", "write_state"]

WEIGHTS_FILE = "weights.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"

_STATES: dict[str, type[CheckpointedState]] = {
    "loop": LoopState,
    "loss_window": LossWindow,
    "loss_statistics": LossStatistics,
    "time_plan": TimePlan,
    "decisions": RunDecisions,
}

_STORED_AS = {
    ("loss_window", "losses"): "window_losses",
    ("loss_window", "targets"): "window_targets",
    ("loss_statistics", "count"): "judged_steps",
    ("loss_statistics", "mean"): "loss_mean",
    ("loss_statistics", "variance"): "loss_variance",
    ("time_plan", "points"): "time_plan",
    ("decisions", "memory"): "memory_plan",
}
"""State and field -> key in ``counters`` of ``state.json``, where it is not the field's name."""

_PLAIN_FIELDS = ("scaler", "total_steps", "batches_per_epoch", "options", "identity", "precision", "device")


def write_state(folder: Path, state: TrainingState) -> None:
    """Write the three files of ``state`` into ``folder``, durably."""
    weights, aliases = _distinct(state.model)
    _save_tensors(folder / WEIGHTS_FILE, weights)
    _save_tensors(folder / OPTIMIZER_FILE, state.optimizer.tensors)
    values = {
        "counters": _counters(state.checkpointed),
        "aliases": aliases,
        "optimizer": {"values": state.optimizer.values, "groups": state.optimizer.groups},
        "random": state.random.to_json(),
        **{name: _plain(getattr(state, name)) for name in _PLAIN_FIELDS},
    }
    write_text(folder / STATE_FILE, json.dumps(values) + "\n")


def read_state(folder: Path, *, notes: tuple[str, ...] = ()) -> TrainingState:
    """Read what ``write_state`` wrote; the files are trusted, verify them before."""
    values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    weights = _load_tensors(folder / WEIGHTS_FILE)
    model = {name: weights[values["aliases"].get(name, name)] for name in [*weights, *values["aliases"]]}
    optimizer = OptimizerState(_load_tensors(folder / OPTIMIZER_FILE), **values["optimizer"])
    return TrainingState(
        model=model,
        optimizer=optimizer,
        random=RandomState.from_json(values["random"]),
        notes=notes,
        **_states(values["counters"]),
        **{name: values[name] for name in _PLAIN_FIELDS},
    )


def read_checkpointed(folder: Path) -> dict[str, CheckpointedState]:
    """Read ``TrainingState.checkpointed`` of a checkpoint without its tensors."""
    return _states(json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["counters"])


def _counters(states: Mapping[str, CheckpointedState]) -> dict[str, Any]:
    """Return the fields of ``states`` in one object, as every version of this package has stored them."""
    return {
        _STORED_AS.get((part, name), name): value
        for part, state in states.items()
        for name, value in state.state_dict().items()
    }


def _states(counters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states in the counters of any version: a field that it did not have has its default."""
    states = {part: kind() for part, kind in _STATES.items()}
    for part, state in states.items():
        stored = {field.name: _STORED_AS.get((part, field.name), field.name) for field in dataclasses.fields(state)}
        state.load_state_dict({name: counters[key] for name, key in stored.items() if key in counters})
    return states


def _distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split into tensors to store and names that stand for one of them: safetensors refuses shared memory."""
    first_name: dict[int, str] = {}
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        if id(tensor) in first_name:
            aliases[name] = first_name[id(tensor)]
        else:
            first_name[id(tensor)] = name
            stored[name] = tensor
    return stored, aliases


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as err:  # how it reports a full disk
        raise OSError(str(err)) from err
    sync(path)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
