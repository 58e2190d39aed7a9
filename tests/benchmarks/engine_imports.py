"""What importing the training engine costs beside torch alone: ``python -m tests.benchmarks.engine_imports``."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

IMPORTS = {
    "torch": "import torch",
    "core.training": "from transformer_foundry.core.training import fit",
    "transformers' Trainer": "from transformers import Trainer",
}
ROUNDS = 5


def cpu_seconds(code: str) -> float:
    """Return the CPU time of a new Python that runs ``code``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median CPU seconds of each import."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(ROUNDS):
        for name, code in IMPORTS.items():
            seconds[name].append(cpu_seconds(code))
    for name, found in seconds.items():
        print(f"{name:22} {statistics.median(found):6.2f} CPU s")


if __name__ == "__main__":
    main()
