"""Data-parallel processes: each computes its share of a step, all take the same step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError

__all__ = ["SINGLE_PROCESS", "ProcessGroup", "join_processes"]

ValueT = TypeVar("ValueT")

_BUCKET_BYTES = 64 * 2**20
"""Gradients are summed in buckets of this size: few calls, little extra memory."""


@dataclass(frozen=True)
class ProcessGroup:
    """The place of this process among those that train together; a single process exchanges nothing.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def rank_slice(self, count: int) -> range:
        """Return the indices of this process's share of ``count`` items."""
        return range(self.rank, count, self.world_size)

    def all_reduce_sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Return the sums of ``values`` over all processes, in double precision."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.tolist()

    def all_gather(self, value: ValueT) -> list[ValueT]:
        """Return the values of all processes, in the order of their ranks."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def all_reduce_tensor(self, tensor: Tensor) -> Tensor:
        """Sum ``tensor`` over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all processes, in place; a gradient that only some have counts as zero elsewhere."""
        if self.world_size == 1:
            return
        # A block that was skipped (LayerDrop) here may have been computed elsewhere.
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device)
        dist.all_reduce(present)
        for parameter, has_gradient in zip(parameters, present.tolist(), strict=True):
            if has_gradient and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, piece in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(piece.view_as(gradient))

    def broadcast_weights(self, model: nn.Module) -> None:
        """Copy the weights and buffers of the first process to all others."""
        if self.world_size > 1:
            for tensor in model.state_dict().values():
                _broadcast(tensor)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the running statistics of the first process, which are the ones that are saved, to all others.

        Those of batch normalization, for example: floating point or single numbers; mask tables do not change.
        """
        if self.world_size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point() or buffer.numel() == 1:
                    _broadcast(buffer)

    def require_same_step(self, step: int) -> None:
        """Check that all processes found the same checkpoint.

        Raises:
            TrainingError: If they start from different steps.
        """
        found = self.all_gather(step)
        if len(set(found)) > 1:
            raise TrainingError(
                f"The processes would resume from different steps: {', '.join(map(str, found))}.",
                "All processes must read the same run folder.",
                "Put data_dir on a file system that every process sees.",
            )


SINGLE_PROCESS = ProcessGroup()
"""A process that trains alone."""


def join_processes(device: torch.device) -> ProcessGroup:
    """Join the processes that torchrun started, and return the group; without torchrun, a single process."""
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return SINGLE_PROCESS
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def _broadcast(tensor: Tensor) -> None:
    """Copy the values of the first process to all others; views, which cannot be sent, are sent as copies."""
    whole = tensor.detach().contiguous()
    dist.broadcast(whole, src=0)
    if whole.data_ptr() != tensor.data_ptr() and not torch.equal(whole, tensor):
        tensor.detach().copy_(whole)


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Split into groups of one number format, each of at most ``_BUCKET_BYTES`` unless one gradient is larger."""
    buckets: list[list[Tensor]] = []
    size = 0
    for gradient in gradients:
        size += gradient.nbytes
        if not buckets or size > _BUCKET_BYTES or gradient.dtype is not buckets[-1][0].dtype:
            buckets.append([])
            size = gradient.nbytes
        buckets[-1].append(gradient)
    return buckets
