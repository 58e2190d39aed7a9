"""The optimizers, and their state by parameter name, which is saved without pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import CheckpointError, TrainingError
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["AVERAGE_SLOT", "OptimizerState", "build_optimizers", "capture_optimizers", "restore_optimizers"]

AVERAGE_SLOT = "average"
"""Slot of the averaged weights, which are saved beside the optimizer's own."""

_FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class OptimizerState:
    """The state of an optimizer without references to parameters.

    Attributes:
        tensors: ``<slot>/<parameter name>`` -> tensor on the CPU, for example ``exp_avg/blocks.0.norm.weight``.
        values: The same for slots that are plain numbers.
        groups: The parameter groups, their parameters by name.
    """

    tensors: Mapping[str, Tensor]
    values: dict[str, Any] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)


def build_optimizers(
    model: nn.Module, options: TrainingOptions, *, output_size: int | None = None
) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers that share the trainable parameters of ``model``: one, or Muon and AdamW.

    Weight decay applies to tensors of two or more dimensions, embeddings included, and not to biases and the gains of
    norms (nanoGPT's rule). Muon updates the matrices between embedding and head (Jordan et al. 2024) and scales its
    updates to the size of AdamW's, so that both follow one learning rate (Liu et al. 2025). Fused kernels are used
    where torch has them for the device.

    Args:
        model: The model, on its device.
        options: Kind and settings of the optimizers.
        output_size: Size of the last dimension of the logits, by which the head is found; None takes the size of the
            embeddings.

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
    hidden = _hidden_matrices(model, output_size) if options.optimizer == "muon" else []
    taken = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in trainable if id(parameter) not in taken]
    optimizers = [_build_muon(hidden, options)] if hidden else []
    if rest:
        optimizers.append((_build_sgd if options.optimizer == "sgd" else _build_adamw)(rest, options))
    return tuple(optimizers)


def capture_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, copy: Callable[[Tensor], Tensor]
) -> OptimizerState:
    """Copy the state of ``optimizers`` to the CPU by ``copy``."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    captured = OptimizerState(tensors)
    for optimizer in optimizers:
        for parameter, slots in optimizer.state.items():
            for slot, value in slots.items():
                key = f"{slot}/{names[id(parameter)]}"
                if isinstance(value, Tensor):
                    tensors[key] = copy(value)
                else:
                    captured.values[key] = value
        for group in optimizer.param_groups:
            # Lists instead of tuples (betas), as JSON returns them.
            settings = {k: list(v) if isinstance(v, tuple) else v for k, v in group.items() if k != "params"}
            captured.groups.append({**settings, "params": [names[id(parameter)] for parameter in group["params"]]})
    return captured


def restore_optimizers(optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, saved: OptimizerState) -> None:
    """Restore ``saved`` in newly built ``optimizers`` of ``model``; later steps do not change ``saved``.

    Raises:
        CheckpointError: If the optimizers have other parameters.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    expected = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    if expected != [group["params"] for group in saved.groups]:
        raise CheckpointError(
            "The optimizer state of the checkpoint belongs to other parameters than the model has.",
            "The names of the trainable parameters and their order must be the same.",
            "Train the model that the checkpoint was made with, or start another run with run.name=NEW.",
        )
    slots: dict[str, dict[str, Any]] = {}
    for key, value in {**saved.tensors, **saved.values}.items():
        slot, _, name = key.partition("/")
        if slot == AVERAGE_SLOT:
            continue
        slots.setdefault(name, {})[slot] = value.clone() if isinstance(value, Tensor) else value
    remaining = iter(saved.groups)
    for optimizer in optimizers:
        _load_state(optimizer, [next(remaining) for _ in optimizer.param_groups], slots)


def _load_state(
    optimizer: torch.optim.Optimizer, saved: list[dict[str, Any]], slots: Mapping[str, dict[str, Any]]
) -> None:
    """Load groups and slots into ``optimizer``, with the parameters numbered as torch numbers them."""
    names = [name for group in saved for name in group["params"]]
    groups, start = [], 0
    for group in saved:
        end = start + len(group["params"])
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        groups.append({**settings, "params": list(range(start, end))})
        start = end
    state = {index: slots[name] for index, name in enumerate(names) if name in slots}
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _hidden_matrices(model: nn.Module, output_size: int | None) -> list[nn.Parameter]:
    """The trainable matrices that are neither an embedding nor the head."""
    tables = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() == 2 and id(p) not in tables]
    is_tied = any(id(module.weight) in tables for module in model.modules() if isinstance(module, nn.Linear))
    head = None if is_tied else _find_head(tables.values(), matrices, output_size)
    return [parameter for parameter in matrices if parameter is not head]


def _find_head(
    tables: Iterable[Tensor], matrices: Sequence[nn.Parameter], output_size: int | None
) -> nn.Parameter | None:
    """The last matrix with a side of the size of the output, or else of the shape of an embedding, either way round."""
    if output_size is not None:
        found = [parameter for parameter in matrices if output_size in parameter.shape]
    else:
        shapes = {frozenset(table.shape) for table in tables}
        found = [parameter for parameter in matrices if frozenset(parameter.shape) in shapes]
    return found[-1] if found else None


def _build_muon(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    return torch.optim.Muon(
        parameters,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        adjust_lr_fn="match_rms_adamw",
    )


def _build_adamw(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(
        _decay_groups(parameters, options), lr=options.learning_rate, betas=betas, fused=_has_fused(parameters)
    )


def _build_sgd(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        _decay_groups(parameters, options),
        lr=options.learning_rate,
        momentum=options.momentum,
        nesterov=options.momentum > 0,
        fused=_has_fused(parameters),
    )


def _decay_groups(parameters: list[nn.Parameter], options: TrainingOptions) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _has_fused(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in _FUSED_DEVICES and torch.is_floating_point(p) for p in parameters)
