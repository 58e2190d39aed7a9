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
from transformer_foundry.core.training.checkpointing.state import Counters, TrainingState
from transformer_foundry.core.training.optim.optimizers import OptimizerState

__all__ = ["OPTIMIZER_FILE", "STATE_FILE", "WEIGHTS_FILE", "read_counters", "read_state", "write_state"]

WEIGHTS_FILE = "weights.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"

_PLAIN_FIELDS = ("scaler", "total_steps", "batches_per_epoch", "options", "identity", "precision", "device")


def write_state(folder: Path, state: TrainingState) -> None:
    """Write the three files of ``state`` into ``folder``, durably."""
    weights, aliases = _distinct(state.model)
    _save_tensors(folder / WEIGHTS_FILE, weights)
    _save_tensors(folder / OPTIMIZER_FILE, state.optimizer.tensors)
    values = {
        "counters": dataclasses.asdict(state.counters),
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
        counters=_counters(values),
        notes=notes,
        **{name: values[name] for name in _PLAIN_FIELDS},
    )


def read_counters(folder: Path) -> Counters:
    """Read the counters of a state without its tensors."""
    return _counters(json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))


def _counters(values: Mapping[str, Any]) -> Counters:
    """Counters of any earlier version: what it did not have has its default, what is no more is left out."""
    known = {field.name for field in dataclasses.fields(Counters)}
    return Counters(**{name: value for name, value in values["counters"].items() if name in known})


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
