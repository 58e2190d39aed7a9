"""The optimizer, and its state by parameter name, so that it can be kept without pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.errors import CheckpointError, TrainingError
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["OptimizerState", "build_optimizer", "capture_optimizer", "restore_optimizer"]

_FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class OptimizerState:
    """The state of an optimizer without references to parameters.

    Attributes:
        tensors: ``<slot>/<parameter name>`` -> tensor on the CPU, for example ``exp_avg/blocks.0.norm.weight``.
        values: The same for slots that are plain numbers.
        groups: The parameter groups, their parameters by name.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)


def build_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Return AdamW for the trainable parameters of ``model``.

    Weight decay applies to tensors of two or more dimensions, embeddings included, and not to biases and the gains of
    norms (nanoGPT's rule). The fused kernel is taken where torch has one for the device.

    Raises:
        TrainingError: If nothing is trainable.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise TrainingError(
            "The model has no trainable parameter.",
            "At least one parameter with requires_grad was expected.",
            "Check that model.py keeps its layers in attributes or in nn.ModuleList, not in a Python list.",
        )
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in _FUSED_DEVICES and torch.is_floating_point(p) for p in trainable)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        fused=fused,
    )


def capture_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> OptimizerState:
    """Copy the state of ``optimizer`` to the CPU."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    captured = OptimizerState({})
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            key = f"{slot}/{names[id(parameter)]}"
            if isinstance(value, Tensor):
                captured.tensors[key] = value.detach().to("cpu", copy=True)
            else:
                captured.values[key] = value
    for group in optimizer.param_groups:
        # Lists instead of tuples (betas): what comes back from JSON is the same.
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in group.items() if k != "params"}
        captured.groups.append({**settings, "params": [names[id(parameter)] for parameter in group["params"]]})
    return captured


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, saved: OptimizerState) -> None:
    """Put ``saved`` into a newly built ``optimizer`` of ``model``; ``saved`` is not changed by later steps.

    Raises:
        CheckpointError: If the parameters are not those that were saved.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    if expected != [group["params"] for group in saved.groups]:
        raise CheckpointError(
            "The optimizer state of the checkpoint belongs to other parameters than the model has.",
            "The names of the trainable parameters and their order must be the same.",
            "Train the model that the checkpoint was made with, or start another run with run.name=NEW.",
        )
    indices = {name: index for index, name in enumerate(name for group in expected for name in group)}
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**saved.tensors, **saved.values}.items():
        slot, _, name = key.partition("/")
        state.setdefault(indices[name], {})[slot] = value.clone() if isinstance(value, Tensor) else value
    groups, start = [], 0
    for group in saved.groups:
        end = start + len(group["params"])
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        groups.append({**settings, "params": list(range(start, end))})
        start = end
    optimizer.load_state_dict({"state": state, "param_groups": groups})
