"""Choose the device and the number format of training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from transformer_foundry.core.base.errors import TrainingError, error_message

__all__ = ["Precision", "choose_precision", "kernels"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Where and in which number format the forward pass computes; weights and optimizer stay in their own format.

    Attributes:
        device: Device of the model.
        dtype: Format of autocast; float32 means no autocast.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """``fp32``, ``bf16`` or ``fp16``."""
        return next(name for name, dtype in _DTYPES.items() if dtype is self.dtype)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the model is called."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the scaler of the loss, which only half precision needs: its gradients underflow without one."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def choose_precision(device: str = "auto", precision: str = "auto") -> Precision:
    """Choose device and number format.

    ``auto`` takes a GPU if there is one, with bf16 where the hardware supports it (Ampere and newer), otherwise fp16
    with a scaler (T4); on a CPU it takes fp32.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        TrainingError: If the device does not exist or does not support the format.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "training.device is 'cuda', but torch finds no GPU.",
            "A GPU that torch can use was expected.",
            "Choose a GPU runtime, or set training.device=auto to train on the CPU.",
        )
    # The default of is_bf16_supported answers True on a T4, which only emulates bf16.
    has_bf16 = device == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "bf16" if has_bf16 else "fp16"
    if precision == "bf16" and not has_bf16:
        raise TrainingError(
            f"training.precision is 'bf16', but {torch.cuda.get_device_name()} has no bf16.",
            "bf16 needs an Ampere GPU (A100, RTX 30) or newer.",
            "Set training.precision=auto (fp16 with a scaler on this GPU).",
        )
    # torchrun numbers the processes of a machine; each uses the GPU with its number.
    index = int(os.environ.get("LOCAL_RANK", "0"))
    return Precision(torch.device(device, index) if device == "cuda" else torch.device(device), _DTYPES[precision])


@contextlib.contextmanager
def kernels(*, deterministic: bool, tf32: bool) -> Iterator[None]:
    """Select torch's kernels in this context, then restore its settings.

    Args:
        deterministic: Use only kernels that return the same bits each time.
        tf32: Whether matrix products in fp32 may be computed in TF32 on Ampere and newer GPUs.

    Raises:
        TrainingError: If an operation in the body has no deterministic kernel.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
    )
    if deterministic:
        # cuBLAS reads it when it starts and has no deterministic kernels without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic or before[0])
    torch.set_float32_matmul_precision("high" if tf32 and not deterministic else "highest")
    try:
        yield
    except RuntimeError as err:
        if not deterministic or "deterministic" not in str(err):
            raise
        operation = error_message(err).split(".")[0]
        raise TrainingError(
            f"training.deterministic is true, but the model uses an operation that is not: {operation}.",
            "Operations with a deterministic kernel were expected.",
            "Set training.deterministic=false, or replace the operation in model.py.",
        ) from err
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.benchmark = before[2]
