"""How much memory one training of several in a process takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

__all__ = ["PeakMemory"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """The most memory since it was made: of the GPU where there is one, else what the process grew by (on Linux)."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._before: int | None = None
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            return
        _return_freed_memory()
        try:
            _CLEAR.write_text(_RESET_PEAK)
            self._before = _read_kilobytes("VmRSS")
        except OSError:  # not Linux, or a container that forbids it
            self._before = None

    def gigabytes(self) -> float | None:
        """Return it in GB; None where the system does not tell."""
        if self._device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / 1e9
        if self._before is None:
            return None
        peak = _read_kilobytes("VmHWM")
        return None if peak is None else max(0, peak - self._before) * 1024 / 1e9


def _return_freed_memory() -> None:
    """Give back what an earlier training has freed: reused, it would not count as growth."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _read_kilobytes(name: str) -> int | None:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
