"""A search in its own process, to be killed.

Usage: ``python -m tests.core.studies.tuning.killable_search WHERE N SAMPLER FOLDER``.

``WHERE`` is the path of a SQLite file or a URL. Prints one line a step and one a finished trial, so that a test can
choose the moment. Paused trials keep the step at which they were paused in ``FOLDER``.
"""

import sys
import time
from pathlib import Path

from tests.core.studies.tuning.curves import CurveTrainer
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.paused_checkpoints import FolderCheckpoints
from transformer_foundry.core.studies.tuning.search_loop import search
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.storage import open_storage

SPACE = parse_space(
    {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}}, {"learning_rate": 1e-3}
)
STEP_S = 0.02


def train_trial(parameters, resume_from=None):
    print("begin", resume_from or 0, flush=True)
    for step, loss in CurveTrainer()(parameters, resume_from):
        print("step", step, flush=True)
        time.sleep(STEP_S)
        yield step, loss


def write(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step").write_text(str(step))


def read(folder):
    if not (folder / "step").is_file():
        raise CheckpointError("The state was never finished.")
    return int((folder / "step").read_text())


def main(where, n_trials, sampler, folder):
    storage = open_storage(where if "://" in where else Path(where), heartbeat_s=1, grace_s=2)
    options = TuningOptions(
        n_trials=int(n_trials), max_steps=100, evals_per_trial=10, sampler=sampler, pruner="none", min_gain=0.0
    )
    checkpoints = FolderCheckpoints(Path(folder), 1e6, write, read)
    for record in search(SPACE, train_trial, options, storage, checkpoints=checkpoints):
        print("trial", record.number, record.state, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
