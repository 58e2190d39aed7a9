"""Forecast of a run's memory against the peak of a process that trains, for four architectures.

Each runs in a process of its own, on one thread, with freed memory returned to the system as a run with a budget does.
Run: python -m tests.benchmarks.memory_forecast
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MIB = 2**20
CASES = {
    # name: task, rows, length, accumulation, loss in chunks, checkpointing
    "gpt": ("causal_lm", 16, 256, 1, False, False),
    "gpt, saving": ("causal_lm", 16, 256, 1, True, True),
    "gpt, accumulating": ("causal_lm", 8, 256, 2, False, False),
    "bert": ("masked_lm", 16, 256, 1, False, False),
    "t5": ("seq2seq_lm", 16, 128, 1, False, False),
    "t5, saving": ("seq2seq_lm", 32, 128, 1, True, True),
    "encoder": ("causal_lm", 16, 256, 1, False, False),
    "encoder, measured": ("causal_lm", 16, 256, 1, False, False),
}
SMALL = {"encoder, small": ("causal_lm", 4, 256, 1, False, False)}
"""The case of the test suite."""


def main() -> None:
    """Print forecast and measured growth of each case."""
    print(f"{'':20}{'forecast MiB':>13}{'with margin':>13}{'measured':>10}{'forecast/measured':>19}{'covered':>9}")
    for name in CASES:
        found = _measure(name)
        ratio = found["forecast"] / found["measured"]
        covered = "yes" if found["needed"] >= found["measured"] else "NO"
        print(
            f"{name:20}{found['forecast']:13.0f}{found['needed']:13.0f}{found['measured']:10.0f}{ratio:19.3f}"
            f"{covered:>9}"
        )


def _measure(name: str) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.memory_forecast", name]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def _train(name: str) -> None:
    import torch

    from tests.core.training.memory.models import LanguageModel
    from transformer_foundry.core.models import task_loss_for
    from transformer_foundry.core.system.memory import return_freed_memory
    from transformer_foundry.core.system.precision import Precision
    from transformer_foundry.core.training.memory import (
        BatchShape,
        TrainingWorkload,
        forecast_memory,
        optimizer_bytes,
        verify_savings,
    )

    return_freed_memory()
    task, rows, length, accumulation, chunked, checkpointing = {**CASES, **SMALL}[name]
    objective, precision = task_loss_for(task), Precision(torch.device("cpu"), torch.float32)
    _steps(LanguageModel(50, 16, blocks=1, heads=2), task_loss_for("causal_lm"), BatchShape("causal_lm", 50, 8), 2, 1)
    before = _memory_mib("VmRSS")
    model, shape = _model(name), BatchShape(task, 8000, length)
    work = TrainingWorkload(
        model, objective, shape, precision, optimizer_bytes(model, None), eval_rows=1, sample_rows=0
    )
    savings = verify_savings(
        model, objective, shape.batch(2, 12), chunked_loss=chunked, activation_checkpointing=checkpointing
    )
    forecast = forecast_memory(work, rows, accumulation, savings)
    assert forecast.is_simulated is ("measured" not in name)
    _steps(model, objective, shape, rows, accumulation, savings)
    measured = _memory_mib("VmHWM") - before
    needed = forecast.needed_bytes - forecast.parts["process"]
    print(json.dumps({"forecast": forecast.peaks["train"] / MIB, "needed": needed / MIB, "measured": measured}))


def _steps(model: Any, objective: Any, shape: Any, rows: int, accumulation: int, savings: Any = None) -> None:
    import torch

    from transformer_foundry.core.training.memory import MemorySavings

    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(4):
        optimizer.zero_grad()
        for _ in range(accumulation):
            with (savings or MemorySavings()).active():
                loss = objective.loss(model, shape.batch(rows)).loss_sum
            (loss / 1000).backward()
            del loss
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _model(name: str) -> Any:
    from tests.benchmarks.memory_models import Bert, Encoder, Looking, Pair
    from tests.core.training.memory.models import LanguageModel

    if name == "encoder, measured":
        return Looking()
    makers = {"bert": Bert, "t5": Pair, "encoder": Encoder}
    make = makers.get(name.partition(",")[0])
    return LanguageModel(8000, 256, blocks=4, heads=8) if make is None else make()


def _memory_mib(name: str) -> float:
    """``VmRSS`` is the memory of now, ``VmHWM`` its highest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _train(sys.argv[1])
    else:
        main()
