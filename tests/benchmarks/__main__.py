"""Run all benchmarks, one after the other, each in a process of its own: ``python -m tests.benchmarks [NAME ...]``.

All of them take about an hour and a half on two cores; ``search_replay`` takes most of it.
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "engine_imports",
    "engine_speed",
    "memory_loss",
    "memory_forecast",
    "checkpoint_stall",
    "data_preparation",
    "data_loading",
    "data_memory",
    "weight_transfer",
    "label_errors",
    "fine_tuning",
    "model_comparison",
    "time_budget",
    "publishing",
    "export_models",
    "export_speed",
    "package_environment",
    "browser_page",
    "cached_generation",
    "server_load",
    "search_kills",
    "search_real",
    "search_replay",
)


def main() -> int:
    """Return how many of the benchmarks that were named, or of all, did not end well."""
    failed = 0
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"]).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
