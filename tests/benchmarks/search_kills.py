"""Kill a search ten times with SIGKILL and look at what is left.

``python -m tests.benchmarks.search_kills [--storage URL]`` prints how long each reopening took, from opening
the study to the first training, and what the study holds in the end.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from transformer_foundry.core.studies.tuning.storage import load_study, open_storage
from transformer_foundry.core.studies.tuning.storage.trial_attributes import is_paused

KILLS = 10
N_TRIALS = 12


PROGRAM = """
import sys
from tests.core.studies.tuning import killable_search
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
print("opening", flush=True)
killable_search.main(*sys.argv[1:])
"""


def run_search(where, folder, lines_until_kill):
    """Return the seconds from opening the study to the first training; kill the search after so many more lines."""
    command = [sys.executable, "-c", PROGRAM, str(where), str(N_TRIALS), "pause_resume", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    began, opened = time.monotonic(), None
    for count, _ in enumerate(process.stdout):
        opened = opened or time.monotonic() - began
        if count == lines_until_kill:
            process.send_signal(signal.SIGKILL)
    process.wait()
    return opened


def complete_trials(where):
    trials = load_study(open_storage(where)).get_trials()
    return {trial.number: (trial.params, trial.value) for trial in trials if trial.state.name == "COMPLETE"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage")
    arguments = parser.parse_args()
    rng, seconds, lost, before = random.Random(1), [], 0, {}
    with TemporaryDirectory() as folder:
        where = arguments.storage or Path(folder) / "study.db"
        for _ in range(KILLS):
            seconds.append(run_search(where, folder, rng.randint(1, 20)))
            after = complete_trials(where)
            lost += sum(after.get(number) != trial for number, trial in before.items())
            before = after
        run_search(where, folder, None)
        trials = load_study(open_storage(where)).get_trials()
    states = Counter("PAUSED" if is_paused(trial) else trial.state.name for trial in trials)
    doubled = len(trials) - len({str(trial.params) for trial in trials})
    print(f"4. {KILLS} kills: finished trials lost {lost}, doubled {doubled}, in the end {dict(states)}")
    print(f"   seconds to reopen: longest {max(seconds[1:]):.1f}, each {[round(value, 1) for value in seconds[1:]]}")


if __name__ == "__main__":
    main()
