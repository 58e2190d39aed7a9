"""Identify the process that trains a trial, and find out whether it has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["has_died", "this_worker"]


def this_worker() -> dict[str, Any]:
    """Return the identity of this process: ``place`` (machine, boot, process namespace), ``pid`` and ``start``."""
    return {"place": _place(), "pid": os.getpid(), "start": _start_of(os.getpid())}


def has_died(worker: Mapping[str, Any] | None) -> bool:
    """Return whether ``worker`` is known to have ended; False if that cannot be seen from here."""
    if not worker or worker["place"] is None or worker["place"] != _place():
        return False
    return bool(_start_of(worker["pid"]) != worker["start"])


def _place() -> str | None:
    """Return where process ids mean the same; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _start_of(pid: int) -> str | None:
    """Return when the process started, in clock ticks since boot; None if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start
