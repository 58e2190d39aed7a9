"""What all formats of a 14M-parameter model cost to make, and how fast they answer beside eager PyTorch.

    python -m tests.benchmarks.export_speed [drawn|written|rotary] [ROUNDS]

One thread. The making is the processor time of this process alone; the processes that verify are shown apart. Speed is
the median processor time of a batch of 8 x 128 tokens, the formats taking turns.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from tests.benchmarks.speed_models import LONGEST, VOCABULARY, make_model
from tests.core.export.small_models import make_inputs
from transformer_foundry.core.export import FORMAT_FILES, export_model

SHAPE = (8, 128)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def cpu_seconds(act: Callable[[], Any]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


def main() -> None:
    name, rounds = (*sys.argv[1:], *("drawn", "9")[len(sys.argv) - 1 :])[:2]
    torch.set_num_threads(1)
    model, inputs = make_model(name), make_inputs(vocab_size=VOCABULARY, max_length=LONGEST)
    print(f"{name}: {sum(value.numel() for value in model.parameters()) / 1e6:.1f}M parameters")
    with tempfile.TemporaryDirectory() as scratch:
        folder, made = Path(scratch), []
        spent = cpu_seconds(lambda: made.append(export_model(model, inputs, folder, max_length=LONGEST)))
        checked = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"made in {spent:.1f} CPU s, verified in {checked.ru_utime + checked.ru_stime:.1f} CPU s more")
        for entry in made[0]["formats"]:
            share = f"{entry['relative_size']:.3f} of ONNX" if "relative_size" in entry else ""
            print(
                f"  {entry['format']:12} {entry.get('size_bytes', 0) / 1e6:7.1f} MB {share} {entry.get('reason', '')}"
            )
        ids = inputs(*SHAPE)["input_ids"]
        runs: dict[str, Callable[[], Any]] = {"eager": lambda: model(ids)}
        for entry in made[0]["formats"]:
            if entry["format"].startswith("onnx") and entry["file"]:
                opened = session(folder / FORMAT_FILES[entry["format"]])
                runs[entry["format"]] = lambda opened=opened: opened.run(None, {"input_ids": ids.numpy()})
        with torch.no_grad():
            times = [{key: cpu_seconds(run) for key, run in runs.items()} for _ in range(int(rounds) + 1)][1:]
    medians = {key: statistics.median(row[key] for row in times) for key in runs}
    for key, seconds in medians.items():
        print(f"{key:12} {1e3 * seconds:8.1f} ms for {SHAPE[0]} x {SHAPE[1]}, {medians['eager'] / seconds:.2f}x eager")


if __name__ == "__main__":
    main()
