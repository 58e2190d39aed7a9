"""Forecast the peak memory of a training run before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.models.losses import TaskLoss
from transformer_foundry.core.system.memory import resident_bytes
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.training.memory.dummy_batch import BatchShape
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.memory.simulation import Pass, pass_peak

__all__ = [
    "GB",
    "MemoryForecast",
    "TrainingWorkload",
    "export_bytes",
    "forecast_memory",
    "optimizer_bytes",
    "process_bytes",
    "update_bytes",
]

GB = 10**9
"""Bytes of a gigabyte, in budgets and messages."""

# Kernels loaded late and workspaces of matrix products: 20 to 30 MiB were measured on a CPU; cuBLAS takes 8 to 32 MiB
# for each handle.
_CPU_WORKSPACE, _GPU_WORKSPACE = 24 * 2**20, 64 * 2**20
# Overhead of allocators: on a CPU 1 to 4 % were measured where freed memory is returned (``return_freed_memory``) and
# 14 to 40 % where it is not; torch's allocator on a GPU rounds up and splits blocks.
_CPU_MARGIN, _KEPT_HEAP_MARGIN, _GPU_MARGIN = 0.06, 0.45, 0.08

# Float32 copies of a matrix during its Muon step: 1 + 4 x 0.5.
_MUON_COPIES = 3

# Measured with weights of 6 and of 222 MiB on a CPU: 643 and 1841 MiB.
_EXPORT_FIXED, _EXPORT_WEIGHTS = 640 * 2**20, 5.6


@dataclass(frozen=True)
class TrainingWorkload:
    """The model, its batches, and the state of its training.

    Attributes:
        adapter: The model.
        objective: Its loss.
        shape: Format of its batches.
        precision: Device and number format.
        state_bytes: Optimizer state, averaged weights included; see ``optimizer_bytes``.
        update_bytes: Temporary memory of an optimizer step; see ``update_bytes``.
        eval_rows: Rows of an evaluation batch.
        sample_rows: Rows of a batch that samples are generated from; 0 for no samples.
        label_smoothing: As in training.
        batches_per_step: Batches of an optimizer step, each of which may be divided into micro-batches.
        returns_freed_memory: Whether ``return_freed_memory`` was called; on a GPU it does not matter.
    """

    adapter: nn.Module
    objective: TaskLoss
    shape: BatchShape
    precision: Precision
    state_bytes: int
    update_bytes: int = 0
    eval_rows: int | None = None
    sample_rows: int = 2
    label_smoothing: float = 0.0
    batches_per_step: int = 1
    returns_freed_memory: bool = True
    _peaks: dict[tuple[Any, ...], tuple[int, bool]] = field(default_factory=dict, repr=False, compare=False)

    def peak(self, planned: Pass, rows: int) -> tuple[int, bool]:
        """Return ``pass_peak``, computed once for each pass."""
        savings = planned.savings
        key = (rows, planned.trains, planned.adds_gradients, savings.chunked_loss, savings.activation_checkpointing)
        if key not in self._peaks:
            self._peaks[key] = pass_peak(planned, rows)
        return self._peaks[key]


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes that a run needs on its device.

    Attributes:
        parts: ``parameters``, ``buffers``, ``gradients``, ``optimizer``, ``activations`` (of a training pass with its
            loss, new gradients included), ``workspace`` (of the kernels), ``process`` (the rest: the interpreter,
            other programs).
        peaks: Peak bytes of tensors in ``train``, ``update``, ``evaluation``, ``sampling``, ``checkpoint``, ``resume``.
        margin: Share by which a peak may be exceeded.
        plan: The forecast plan as text.
        is_simulated: Whether it was computed with fake tensors; otherwise it is extrapolated from small batches.
    """

    parts: Mapping[str, int]
    peaks: Mapping[str, int]
    margin: float
    plan: str = ""
    is_simulated: bool = True

    @property
    def peak_bytes(self) -> int:
        """Peak bytes of tensors."""
        return max(self.peaks.values())

    @property
    def needed_bytes(self) -> int:
        """The peak with its margin, plus the other memory of the process."""
        return int(self.peak_bytes * (1 + self.margin)) + self.parts["process"]

    def fits(self, budget_bytes: int | None) -> bool:
        """Return whether the run fits into ``budget_bytes``; None is no limit."""
        return budget_bytes is None or self.needed_bytes <= budget_bytes

    def sentence(self, budget_bytes: int | None = None) -> str:
        """Return the forecast as text: ``needs 9.1 GB of 12: batch 8 x accumulation 4, checkpointing on``."""
        needed = f"needs {_gigabytes(self.needed_bytes)} GB"
        of = "" if budget_bytes is None else f" of {budget_bytes / GB:.3g}"
        largest = max(self.peaks, key=lambda name: self.peaks[name])
        cause = "" if largest == "train" else f" (most for {_PEAK_NAMES[largest]})"
        return f"{needed}{of}: {self.plan}{cause}"


def _gigabytes(size: int) -> str:
    """Return a size in GB: two digits of a small one, one decimal of a large one."""
    return f"{size / GB:.1f}" if size >= GB else f"{size / GB:.2g}"


_PEAK_NAMES = {
    "update": "the optimizer's step",
    "evaluation": "the evaluation",
    "sampling": "the samples",
    "checkpoint": "the copy for a checkpoint",
    "resume": "resuming from a checkpoint",
}


def forecast_memory(work: TrainingWorkload, rows: int, accumulation: int, savings: MemorySavings) -> MemoryForecast:
    """Forecast the memory of training with micro-batches of ``rows`` rows, on fake tensors where possible.

    Args:
        work: The model and its training.
        rows: Rows of a micro-batch.
        accumulation: Micro-batches of a batch.
        savings: The savings in use.
    """
    accumulation *= work.batches_per_step
    parameters, trainable = _size(work.adapter.parameters()), _size(_trainable(work.adapter))
    buffers = _size(work.adapter.buffers())
    train = Pass(
        work.adapter, work.objective, work.precision, savings, work.shape.batch, label_smoothing=work.label_smoothing
    )
    activations, is_simulated = work.peak(replace(train, adds_gradients=accumulation > 1), rows)
    evaluation, _ = work.peak(replace(train, trains=False), work.eval_rows or rows)
    plain = replace(train, trains=False, savings=MemorySavings())
    sampling = work.peak(plain, work.sample_rows)[0] if work.sample_rows else 0
    is_cpu = work.precision.device.type == "cpu"
    workspace = _CPU_WORKSPACE if is_cpu else _GPU_WORKSPACE
    state = parameters + buffers + work.state_bytes
    kept, copy = state + workspace, state if is_cpu else 0
    peaks = {
        "train": kept + max(trainable, activations + (trainable if accumulation > 1 else 0)),
        "update": kept + trainable + work.update_bytes,
        "evaluation": kept + trainable + evaluation,
        "sampling": kept + trainable + sampling,
        "checkpoint": kept + trainable + copy,
        "resume": kept + copy,
    }
    parts = {
        "parameters": parameters,
        "buffers": buffers,
        "gradients": trainable,
        "optimizer": work.state_bytes,
        "activations": activations,
        "workspace": workspace,
        "process": process_bytes(work.adapter, work.precision.device),
    }
    cpu_margin = _CPU_MARGIN if work.returns_freed_memory else _KEPT_HEAP_MARGIN
    margin = cpu_margin if is_cpu else _GPU_MARGIN
    return MemoryForecast(parts, peaks, margin, _plan(rows, accumulation, savings), is_simulated)


def optimizer_bytes(
    adapter: nn.Module, groups: Sequence[Mapping[str, Any]] | None, *, has_average: bool = False
) -> int:
    """Return the bytes of optimizer state for the parameters in ``groups``.

    Args:
        adapter: The model.
        groups: The parameter groups of all optimizers; None is AdamW for all trainable parameters.
        has_average: Whether there is a moving average of the weights.
    """
    if groups is None:
        groups = [{"params": list(_trainable(adapter)), "betas": (0.9, 0.95)}]
    state = sum(_slots(group) * _size(group["params"]) for group in groups)
    return state + (_size(_trainable(adapter)) if has_average else 0)


def update_bytes(groups: Sequence[Mapping[str, Any]]) -> int:
    """Return the temporary memory in bytes of a step of the optimizers with these parameter groups.

    Muon takes one matrix at a time: torch's orthogonalization holds the update in the format of the matrix and in
    bfloat16, and there two more of its size and two products. SGD with weight decay allocates new gradients.
    """
    most = 0
    for group in groups:
        largest = max((parameter.nbytes for parameter in group["params"]), default=0)
        if "ns_steps" in group:
            most = max(most, _MUON_COPIES * largest)
        elif "betas" not in group and group.get("weight_decay"):
            most = max(most, _size(group["params"]))
    return most


def export_bytes(adapter: nn.Module) -> int:
    """Return the memory in bytes that exporting ``adapter`` in all formats takes, the verifying process included."""
    return _EXPORT_FIXED + int(_EXPORT_WEIGHTS * _size(adapter.parameters()))


def process_bytes(adapter: nn.Module, device: torch.device) -> int:
    """Return the bytes in use on ``device`` besides this process's tensors: on a CPU interpreter and libraries."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return max(0, total - free - torch.cuda.memory_reserved(device))
    held = {id(tensor): tensor.nbytes for tensor in (*adapter.parameters(), *adapter.buffers()) if tensor.is_cpu}
    return max(0, resident_bytes() - sum(held.values()))


def _slots(group: Mapping[str, Any]) -> int:
    """Return the copies of its parameters that an optimizer keeps: two for AdamW, one for SGD with momentum, Muon."""
    return 2 if "betas" in group else int(group.get("momentum", 0) != 0)


def _trainable(adapter: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in adapter.parameters() if parameter.requires_grad]


def _size(tensors: Any) -> int:
    """Return the bytes of the storages of ``tensors``; views of one storage count once."""
    sizes: dict[int, int] = {}
    tensor: Tensor
    for tensor in tensors:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr() if storage.nbytes() else id(storage)] = storage.nbytes()
    return sum(sizes.values())


def _plan(rows: int, accumulation: int, savings: MemorySavings) -> str:
    words = [f"batch {rows} x accumulation {accumulation}"]
    words += ["loss in chunks"] if savings.chunked_loss is not None else []
    words += ["checkpointing on"] if savings.activation_checkpointing is not None else []
    return ", ".join(words)
