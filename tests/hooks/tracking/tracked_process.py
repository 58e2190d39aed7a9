"""Track a run in its own process.

Usage: ``python -m tests.hooks.tracking.tracked_process DATA_DIR FIRST LAST end|kill|wait``.

Rows of every tenth step after FIRST up to LAST, a checkpoint at LAST; then the run ends, or the process dies. With
``wait`` it says so before the rows and before the end, and waits for a line on its standard input each time.
"""

import logging
import os
import signal
import sys
from pathlib import Path

from tests.hooks.runs import Run
from transformer_foundry.hooks.tracking import wandb_run
from transformer_foundry.hooks.tracking.wandb_callback import WandbCallback


def main(data_dir, first, last, end):
    logging.basicConfig(force=True, format="%(message)s")  # Kedro's handler prints to the standard output
    wandb_run.INIT_TIMEOUT_S = 3
    run = Run(Path(data_dir), WandbCallback())
    run.begin()
    run.start(int(first))
    pause(end)
    for step in range(int(first) + 10, int(last) + 1, 10):
        run.progress(step)
    run.checkpoint(int(last))
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    pause(end)
    run.end()


def pause(end):
    if end == "wait":
        print("waiting", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
