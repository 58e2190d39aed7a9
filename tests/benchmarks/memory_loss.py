"""Peak memory of a training step at a large vocabulary: plain, loss in chunks, and with activation checkpointing.

Each runs in a process of its own, on one thread. Run: python -m tests.benchmarks.memory_loss
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VOCAB_SIZE, TOKENS, WIDTH, BLOCKS = 50257, 2048, 128, 2
VARIANTS = {"plain": (False, False), "chunked": (True, False), "chunked + checkpointing": (True, True)}


def main() -> None:
    """Print peak, ratio, CPU time and the largest difference of a gradient of each variant."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: _measure(name, Path(folder)) for name in VARIANTS}
        print(f"vocabulary {VOCAB_SIZE}, {TOKENS} tokens, width {WIDTH}, {BLOCKS} blocks, float32, one thread")
        print(f"{'':26}{'peak MiB':>10}{'ratio':>8}{'CPU s':>8}{'gradient difference':>21}")
        for name, values in found.items():
            ratio = found["plain"]["peak_mib"] / values["peak_mib"]
            difference = _difference(Path(folder), name)
            print(f"{name:26}{values['peak_mib']:10.0f}{ratio:8.1f}{values['cpu_s']:8.2f}{difference:21.1e}")


def _measure(name: str, folder: Path) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.memory_loss", name, str(folder)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def _difference(folder: Path, name: str) -> float:
    """Largest difference of a gradient, relative to its norm."""
    import torch

    plain, found = (torch.load(folder / f"{which}.pt") for which in ("plain", name))
    return max(float((found[key] - plain[key]).norm() / plain[key].norm()) for key in plain)


def _step(name: str, folder: Path) -> None:
    import torch

    from transformer_foundry.core.models import task_loss_for
    from transformer_foundry.core.training.memory import verify_savings

    model = _model()
    objective = task_loss_for("causal_lm")
    ids = torch.randint(VOCAB_SIZE, (TOKENS // 512, 512), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids}
    chunked, checkpointing = VARIANTS[name]
    small = {key: value[:1, :12] for key, value in batch.items()}
    savings = verify_savings(model, objective, small, chunked_loss=chunked, activation_checkpointing=checkpointing)
    assert (savings.chunked_loss is not None, savings.activation_checkpointing is not None) == VARIANTS[name]
    _run(model, objective, {key: value[:1, :2] for key, value in batch.items()}, savings)  # loads the kernels
    model.zero_grad()
    before, began = _memory_mib("VmRSS"), _cpu_s()
    _run(model, objective, batch, savings)
    print(json.dumps({"peak_mib": _memory_mib("VmHWM") - before, "cpu_s": _cpu_s() - began}))
    torch.save({key: parameter.grad for key, parameter in model.named_parameters()}, folder / f"{name}.pt")


def _run(model: Any, objective: Any, batch: Any, savings: Any) -> None:
    with savings.active():
        loss = objective.loss(model, batch).loss_sum
    (loss / TOKENS).backward()


def _model() -> Any:
    from tests.core.training.memory.models import LanguageModel

    return LanguageModel(VOCAB_SIZE, WIDTH, blocks=BLOCKS, heads=4, dropout=0.0)


def _memory_mib(name: str) -> float:
    """``VmRSS`` is the memory of now, ``VmHWM`` its highest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _step(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
