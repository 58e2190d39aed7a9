"""Which of several processes of one training speaks and writes."""

from __future__ import annotations

import os

__all__ = ["is_main_process", "is_only_process"]


def is_main_process() -> bool:
    """Return whether this is the only process, or the first of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def is_only_process() -> bool:
    """Return whether nobody else trains the same model."""
    return os.environ.get("WORLD_SIZE", "1") == "1"
