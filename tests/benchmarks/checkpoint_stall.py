"""How long a save keeps training waiting, against torch.save of the same state.

    python -m tests.benchmarks.checkpoint_stall [--device cuda] [MILLIONS ...]

With as many threads as torch takes by itself (OMP_NUM_THREADS sets others). For models of 10M and 100M parameters with
AdamW state, three saves each, interleaved with torch.save; medians. A save is followed by the forward and backward pass
of a step, beside which the optimizer's state is copied and the files are written. ``stall`` is what training waits
for: the copy of the weights before the passes and the end of the copy of the optimizer's state after them. ``slower``
is how much longer these passes take than those of steps without a save, interleaved with them: the memory's bandwidth
and, where torch takes all cores, a core are shared with the copy and the writer. ``wall`` is what a user waits; ``cpu``
is the processor time of the thread that trains, which other work on the machine changes less. The first save, which
takes some of its memory from the system, is shown apart. ``of training`` is what a save costs at the default interval,
``stall`` and ``slower`` together, in percent of the steps between two saves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tests.hooks.runs import make_checkpoint
from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.training import CheckpointWriter, TrainingOptions
from transformer_foundry.core.training.checkpointing.async_copy import StagingBuffers
from transformer_foundry.core.training.checkpointing.state import capture_model
from transformer_foundry.core.training.optim.optimizers import capture_optimizers

WIDTH = 1024
ROUNDS = 3
TOKENS = 512
"""In the batch of a step: two rows of 256."""

Times = tuple[float, float]
"""Wall and processor time in milliseconds."""


class Training:
    """A stack of linear layers with AdamW, which has taken a step."""

    def __init__(self, parameters: int, folder: Path, device: str) -> None:
        self.model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(parameters // WIDTH**2)]).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.buffers, self.writer, self.folder = StagingBuffers(), CheckpointWriter(folder), folder
        self.batch = torch.randn(TOKENS, WIDTH, device=device)
        make_checkpoint(0)  # trained once, here
        capture_model(self.model, self.buffers.copy_later)  # as a session does at its start
        self.buffers.begin({})
        self.passes()
        self.buffers.wait()
        self.optimizer.step()

    def passes(self) -> None:
        """Forward and backward, as in each step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.model(self.batch).square().mean().backward()

    def save(self, step: int) -> None:
        """What ``fit`` and the catalog entry do for a checkpoint."""
        made = make_checkpoint(step)
        model = capture_model(self.model, self.buffers.copy)
        optimizer = capture_optimizers([self.optimizer], self.model, self.buffers.copy_later)
        optimizer = replace(optimizer, tensors=self.buffers.begin(optimizer.tensors))
        self.writer.submit(replace(made, state=replace(made.state, model=model, optimizer=optimizer)), keep_last=1)

    def save_with_torch(self) -> None:
        path = self.folder / "torch.pt"
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, path)
        sync(path)


def timed(act: Callable[[], object]) -> Times:
    """Return how long ``act`` took, until a GPU has done all of it."""
    _finish()
    wall, cpu = time.perf_counter(), time.thread_time()
    act()
    _finish()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu)


def _finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure(parameters: int, folder: Path, device: str) -> None:
    training = Training(parameters, folder, device)
    rows: list[dict[str, Times]] = []
    for number in range(ROUNDS + 1):
        row = {"alone": timed(training.passes)}
        row["save"] = timed(lambda number=number: training.save(number))  # type: ignore[misc]
        row["beside"] = timed(training.passes)
        row["wait"] = timed(training.buffers.wait)
        row["update"] = timed(training.optimizer.step)
        training.writer.wait()
        row["torch.save"] = timed(training.save_with_torch)
        rows.append(row)
    place = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{parameters / 1e6:.0f}M parameters with AdamW state, {place}, milliseconds")
    for column, name in enumerate(("wall", "cpu")):
        stalls = [row["save"][column] + row["wait"][column] for row in rows]
        stall = statistics.median(stalls[1:])
        passes, beside, wait, update, theirs = (
            statistics.median(row[key][column] for row in rows[1:])
            for key in ("alone", "beside", "wait", "update", "torch.save")
        )
        between = default_interval((passes + update) / 1e3) * (passes + update)
        print(f"  {name:4}  stall {stall:7.1f} (wait {wait:6.1f}, first save {stalls[0]:7.1f})", end="")
        print(f"  torch.save {theirs:8.1f}  ratio 1/{theirs / stall:.1f}", end="")
        print(f"  passes {passes:7.1f}, slower by {beside - passes:7.1f}", end="")
        print(f"  of training {(stall + max(0.0, beside - passes)) / between:.2%}", flush=True)


def default_interval(step_seconds: float) -> float:
    """Steps between two checkpoints that are made by the defaults."""
    options = TrainingOptions()
    assert options.save_steps is not None
    assert options.save_minutes is not None
    return min(options.save_steps, max(1.0, 60 * options.save_minutes / step_seconds))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("millions", nargs="*", type=int, default=[10, 100])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    for millions in arguments.millions:
        with tempfile.TemporaryDirectory() as folder:
            measure(millions * 10**6, Path(folder), arguments.device)


if __name__ == "__main__":
    main()
