"""How long a save keeps training waiting, against torch.save of the same state.

    python -m tests.benchmarks.checkpoint_stall [MILLIONS ...]

With as many threads as torch takes by itself (OMP_NUM_THREADS sets others). For models of 10M and 100M parameters with
AdamW state, three saves each, interleaved with torch.save; medians. ``wall`` is what a user waits; ``cpu`` is the
processor time of the thread that trains, which other work on the machine changes less. The first save, which takes its
memory from the system, is shown apart.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tests.hooks.runs import make_checkpoint
from transformer_foundry.core.training import CheckpointWriter
from transformer_foundry.core.training.durable import sync
from transformer_foundry.core.training.optimizers import capture_optimizers
from transformer_foundry.core.training.snapshots import CopyBuffers
from transformer_foundry.core.training.state import capture_model

WIDTH = 1024
ROUNDS = 3


def make_model(parameters: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A stack of linear layers whose optimizer has taken a step."""
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(parameters // WIDTH**2)])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.randn(2, WIDTH)).sum().backward()
    optimizer.step()
    return model, optimizer


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor time of ``act`` in milliseconds."""
    wall, cpu = time.perf_counter(), time.thread_time()
    act()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu)


def measure(parameters: int, folder: Path) -> None:
    model, optimizer = make_model(parameters)
    buffers, writer, number = CopyBuffers(), CheckpointWriter(folder), 0

    def save() -> None:
        checkpoint = make_checkpoint(number)
        checkpoint.state.__dict__["model"] = capture_model(model, buffers.copy)
        checkpoint.state.__dict__["optimizer"] = capture_optimizers([optimizer], model, buffers.copy)
        writer.submit(checkpoint, keep_last=1)

    def save_with_torch() -> None:
        path = folder / "torch.pt"
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
        sync(path)

    ours, theirs = [], []
    for number in range(ROUNDS + 1):  # noqa: B007 - read by save
        ours.append(timed(save))
        writer.wait()
        theirs.append(timed(save_with_torch))
    threads = torch.get_num_threads()
    print(f"{parameters / 1e6:.0f}M parameters with AdamW state, {threads} threads, milliseconds")
    for column, name in enumerate(("wall", "cpu")):
        stall, torch_save = (statistics.median(row[column] for row in rows[1:]) for rows in (ours, theirs))
        first = ours[0][column]
        print(f"  {name:5} stall {stall:8.1f} (first {first:8.1f})  torch.save {torch_save:8.1f}", end="")
        print(f"  ratio 1/{torch_save / stall:.1f}", flush=True)


def main() -> None:
    for millions in [int(argument) for argument in sys.argv[1:]] or [10, 100]:
        with tempfile.TemporaryDirectory() as folder:
            measure(millions * 10**6, Path(folder))


if __name__ == "__main__":
    main()
