"""A search in a process of its own, to be killed: ``python -m tests.core.tuning.killable_search FILE N_TRIALS``.

Prints one line a step and one a finished trial, so that a test can choose the moment.
"""

import sys
import time
from pathlib import Path

from tests.core.tuning.curves import CurveTrainer
from transformer_foundry.core.tuning.loop import search
from transformer_foundry.core.tuning.options import TuningOptions
from transformer_foundry.core.tuning.space import parse_space
from transformer_foundry.core.tuning.storage import open_storage

SPACE = parse_space(
    {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}}, {"learning_rate": 1e-3}
)
STEP_S = 0.02


def train_trial(parameters, resume_from=None):
    for step, loss in CurveTrainer()(parameters):
        print("step", step, flush=True)
        time.sleep(STEP_S)
        yield step, loss


def main(path, n_trials):
    storage = open_storage(Path(path), heartbeat_s=1, grace_s=2)
    for record in search(
        SPACE, train_trial, TuningOptions(n_trials=int(n_trials), max_steps=100, pruner="none"), storage
    ):
        print("trial", record.number, record.state, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
