"""Checkpoint the activations of a model's repeated blocks without changing its code (Chen et al. 2016).

A block keeps only its inputs; its activations are recomputed in the backward pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.models.losses import Batch, TaskLoss
from transformer_foundry.core.models.side_effects import no_side_effects, own_attributes
from transformer_foundry.core.system.torch_compat import has_forward_hooks, mutation_count
from transformer_foundry.core.training.memory.blocks import find_blocks
from transformer_foundry.core.training.memory.equivalence import EquivalenceResult, compare, run_once

__all__ = ["ActivationCheckpointing", "verify_activation_checkpointing"]


class ActivationCheckpointing:
    """Checkpoint blocks while ``active``; outside it the model is unchanged.

    Args:
        blocks: The blocks by name, none inside another.
    """

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        self.blocks = dict(blocks)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let forward passes with gradients in train mode keep only the inputs of the blocks.

        The backward pass may run outside this context. Names of parameters stay the same.
        """
        replaced: list[nn.Module] = []
        try:
            for name, block in self.blocks.items():
                assert "forward" not in vars(block), f"the forward of {name} is already replaced"
                block.forward = _checkpointed(block, block.forward)
                replaced.append(block)
            yield
        finally:
            for block in replaced:
                del block.forward


def _checkpointed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not (torch.is_grad_enabled() and block.training):
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


def verify_activation_checkpointing(
    adapter: nn.Module, objective: TaskLoss, batch: Batch
) -> tuple[ActivationCheckpointing | None, EquivalenceResult]:
    """Verify that the repeated blocks of ``adapter`` can be checkpointed.

    The loss and every gradient of ``batch`` must be equal with dropout on: bit for bit on a CPU, within
    ``equivalence.TOLERANCE`` on a GPU, where sums are not repeatable. The model and the random state are restored.

    Args:
        adapter: The model, in float32.
        objective: Its loss.
        batch: A small batch on the model's device.

    Returns:
        The checkpointing, or None if it cannot be used; and the result of the verification with the reason.
    """
    blocks = find_blocks(adapter, objective, batch)
    if not blocks:
        return None, EquivalenceResult(False, "not used, because no blocks of one class are called in turn")
    reason = _hooks_of(blocks) or _replaced_forward(blocks) or _stateful(adapter, blocks, objective, batch)
    if reason is not None:
        return None, EquivalenceResult(False, f"not used, because {reason}")
    checkpointing = ActivationCheckpointing(blocks)
    plain = run_once(adapter, objective, batch)
    try:
        found = run_once(adapter, objective, batch, checkpointing.active)
    except (RuntimeError, TypeError, ValueError, AttributeError) as err:
        return None, EquivalenceResult(
            False, f"not used, because the model does not run with it ({error_message(err, first_line=True)})"
        )
    is_cpu = plain.loss.device.type == "cpu"
    reason = compare(plain, found, is_exact=is_cpu)
    if reason is not None:
        return None, EquivalenceResult(False, f"not used, because {reason}")
    return checkpointing, EquivalenceResult(True, f"{len(blocks)} blocks are computed again in the backward pass")


def _hooks_of(blocks: Mapping[str, nn.Module]) -> str | None:
    """Return the reason if a layer inside a block has forward hooks, which would run twice."""
    for name, block in blocks.items():
        for inner, module in block.named_modules():
            if module is not block and has_forward_hooks(module):
                return f"{name}.{inner} has a forward hook, which would run twice"
    return None


def _replaced_forward(blocks: Mapping[str, nn.Module]) -> str | None:
    replaced = [name for name, block in blocks.items() if "forward" in vars(block)]
    return f"the forward of {replaced[0]} is replaced" if replaced else None


def _stateful(adapter: nn.Module, blocks: Mapping[str, nn.Module], objective: TaskLoss, batch: Batch) -> str | None:
    """Return the reason if a call changes the state of a block: a second call would then compute something else."""
    reasons: list[str] = []
    monitors = [_StateMonitor(name, block, reasons) for name, block in blocks.items()]
    try:
        with no_side_effects(adapter, train=True), torch.enable_grad():
            objective.loss(adapter, batch)
    finally:
        for monitor in monitors:
            monitor.stop()
    return reasons[0] if reasons else None


class _StateMonitor:
    """Compares the state of a block before and after each of its calls."""

    def __init__(self, name: str, block: nn.Module, reasons: list[str]) -> None:
        self.name, self.block, self.reasons = name, block, reasons
        self._handles = [block.register_forward_pre_hook(self._start), block.register_forward_hook(self._end)]

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _start(self, *_: Any) -> None:
        self._before, self._random = _state_of_block(self.block), _random_state()

    def _end(self, *_: Any) -> None:
        after = _state_of_block(self.block)
        for key in [key for key in {**after, **self._before} if after.get(key) != self._before.get(key)]:
            self.reasons.append(f"{self.name} changes its {key} with each call")
        if self._random != _random_state():
            self.reasons.append(f"{self.name} draws random numbers of Python or numpy, which are not rewound")


def _random_state() -> str:
    return f"{random.getstate()} {np.random.get_state(legacy=False)}"


def _state_of_block(block: nn.Module) -> dict[str, Any]:
    """Return the state of a block besides its weights: plain values, lengths of containers, versions of buffers."""
    found: dict[str, Any] = {}
    for inner, module in block.named_modules():
        where = f"{inner}." if inner else ""
        for key, value in own_attributes(module).items():
            if isinstance(value, list | dict | set | tuple):
                found[where + key] = len(value)
            elif value is None or isinstance(value, bool | int | float | str):
                found[where + key] = value
        for key, buffer in module.named_buffers(recurse=False):
            found[where + key] = (id(buffer), mutation_count(buffer))
    return found
