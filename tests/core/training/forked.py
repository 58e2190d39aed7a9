"""Processes that train together as those of torchrun do, forked: they cost milliseconds, not the import of torch."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_together(count: int, work: Callable[..., None], *arguments: Any, timeout_s: float = 60) -> list[int | None]:
    """Run ``work`` in ``count`` processes that find each other by the variables of torchrun; return their exit codes.

    One that has not ended in time is killed, and its code is negative.
    """
    context, port = multiprocessing.get_context("fork"), free_port()
    processes = [context.Process(target=_join, args=(rank, count, port, work, arguments)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _join(rank: int, count: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    work(*arguments)
