"""Data-parallel processes: each computes its share of a step, all take the same step."""

from __future__ import annotations

import atexit
import functools
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError, error_message
from transformer_foundry.core.base.text import short_list

__all__ = ["DEFAULT_TIMEOUT_S", "SINGLE_PROCESS", "ProcessGroup", "join_processes", "leave_processes"]

ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")
Arguments = ParamSpec("Arguments")

DEFAULT_TIMEOUT_S = 600.0
"""How long a process waits for the others; ``training.process_timeout_minutes`` changes it."""

_stores: list[Any] = []
"""The store through which this process has joined the others: it works while no exchange does."""

_ROLL_CALL_S = 3.0
"""How long the processes that are left wait for a sign of each other before they name those that are gone."""

_BUCKET_BYTES = 64 * 2**20
"""Gradients are summed in buckets of this size: few calls, little extra memory."""


def _names_the_missing(collective: Callable[Arguments, ResultT]) -> Callable[Arguments, ResultT]:
    """Return a collective operation whose failure says which processes no longer answer."""

    @functools.wraps(collective)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> ResultT:
        try:
            return collective(*args, **kwargs)
        except RuntimeError as err:
            if not dist.is_initialized() or not _is_connection_failure(err):
                raise
            raise _process_lost(err) from err

    return wrapper


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

    @_names_the_missing
    def all_reduce_sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Return the sums of ``values`` over all processes, in double precision."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.tolist()

    @_names_the_missing
    def all_gather(self, value: ValueT) -> list[ValueT]:
        """Return the values of all processes, in the order of their ranks."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    @_names_the_missing
    def all_reduce_tensor(self, tensor: Tensor) -> Tensor:
        """Sum ``tensor`` over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    @_names_the_missing
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

    @_names_the_missing
    def broadcast_first(self, tensor: Tensor) -> Tensor:
        """Give ``tensor`` the values of the first process, in place: what they decide is then the same everywhere."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    @_names_the_missing
    def broadcast_weights(self, model: nn.Module) -> None:
        """Copy the weights and buffers of the first process to all others."""
        if self.world_size > 1:
            for tensor in model.state_dict().values():
                _broadcast(tensor)

    @_names_the_missing
    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the running statistics of the first process, which are the ones that are saved, to all others.

        Those of batch normalization, for example: floating point or single numbers; mask tables do not change.
        """
        if self.world_size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point() or buffer.numel() == 1:
                    _broadcast(buffer)

    def require_same(self, values: Mapping[str, str]) -> None:
        """Check that all processes have the same ``values``, such as digests of model and data.

        Raises:
            TrainingError: Naming the first value that differs, and the processes that have another one.
        """
        found = self.all_gather(dict(values))
        for name in sorted({name for values in found for name in values}):
            first = found[0].get(name, "none")
            others = [rank for rank, values in enumerate(found) if values.get(name, "none") != first]
            if others:
                other = found[others[0]].get(name, "none")
                raise TrainingError(
                    f"The processes have different values of {name}: {_shown(first)} in process 0, {_shown(other)} in "
                    f"{_named(others)}.",
                    "Processes train one model together: model, data, tokenizer, options and torch must be the same.",
                    "Give all machines the same files, parameters and packages, and start torchrun on each again.",
                )

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


def join_processes(device: torch.device, timeout_s: float = DEFAULT_TIMEOUT_S) -> ProcessGroup:
    """Join the processes that torchrun started, and return the group; without torchrun, a single process.

    Args:
        device: Where tensors are that are exchanged.
        timeout_s: How long a process waits for the others, here and in each exchange.

    Raises:
        TrainingError: If they do not all come.
    """
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return SINGLE_PROCESS
    limit = timedelta(seconds=timeout_s)
    if not dist.is_initialized():
        from torch.distributed.rendezvous import rendezvous

        try:
            store, rank, world_size = next(iter(rendezvous("env://", timeout=limit)))
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=limit)
            _stores.append(store)
        except (RuntimeError, ValueError) as err:  # DistStoreError is a RuntimeError
            raise _not_all_came(err, timeout_s) from err
        # Threads of gloo that still run when the interpreter ends may call terminate: the exit code would be -6.
        atexit.register(leave_processes)
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def leave_processes() -> None:
    """Leave the group, if this process is in one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _is_connection_failure(err: RuntimeError) -> bool:
    text = str(err).lower()
    return isinstance(err, dist.DistError) or any(word in text for word in ("gloo", "connection", "timed out", "nccl"))


def _process_lost(err: RuntimeError) -> TrainingError:
    """Return the error for an exchange that failed, with the processes that are gone."""
    missing = _roll_call()
    rank, world_size = dist.get_rank(), dist.get_world_size()
    who = _named(missing) if missing else "another process"
    is_late = "timed out" in str(err).lower() or "timeout" in str(err).lower()
    what = "gave no answer in time" if is_late else "has ended"
    slow = "; if it is only slow, raise training.process_timeout_minutes" if is_late else ""
    return TrainingError(
        f"{who[0].upper()}{who[1:]} of {world_size} {what}; process {rank} cannot continue alone.",
        f"All processes must run until the end; the exchange has failed: {_cause(err)}.",
        f"Look at its output, and start the same command again: it resumes at the newest checkpoint{slow}.",
    )


def _cause(err: RuntimeError) -> str:
    # gloo begins with a file and a line of its own code, and ends with an address.
    return re.sub(r"^\[[^\]]*\]\s*", "", error_message(err, 200, first_line=True)).rstrip(".")[:100]


def _roll_call() -> list[int]:
    """Return the processes that give no sign of themselves within a few seconds; none if that cannot be known."""
    try:
        store = _stores[-1]
        store.set(f"left/{dist.get_rank()}", "here")
        missing, deadline = set(range(dist.get_world_size())), time.monotonic() + _ROLL_CALL_S
        while missing and time.monotonic() < deadline:
            missing -= {rank for rank in missing if store.check([f"left/{rank}"])}
            time.sleep(0.1)
    except (LookupError, RuntimeError, OSError):  # the store has gone with the first process
        return [0] if dist.get_rank() else []
    return sorted(missing)


def _not_all_came(err: Exception, timeout_s: float) -> TrainingError:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return TrainingError(
        f"Process {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')} cannot join the others at {address}: "
        f"{error_message(err, 120, first_line=True)}",
        f"Expected all processes to come within {timeout_s:g} s.",
        "Start torchrun on all machines, with an address that each of them reaches.",
    )


def _named(ranks: Sequence[int]) -> str:
    return f"process{'' if len(ranks) == 1 else 'es'} {short_list([str(rank) for rank in ranks])}"


def _shown(value: str) -> str:
    return value[:12] if len(value) == 64 else value[:80]


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
