"""Kills ``kedro run --pipelines training`` at random moments and compares what is left with a run that was left alone.

    python -m tests.faults.kill_training [--model gpt|bert|t5] [--kills 30] [--seed 0]

Each session is killed with SIGKILL and started again: two in three at a random moment of its training, one in three at
a random moment after its start, which may fall into the start. Prints one line for each kill and then what came out:
tracebacks, steps lost at most, whether weights and optimizer are the same to the bit, and whether each metric is there
once, in metrics.jsonl and in W&B's offline files. Exit code 1 if anything is not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.integration.foundry import kedro_run, kill_when
from tests.loopback.wandb_offline_reader import read_runs
from transformer_foundry.core.training import VOLATILE_METRICS, list_checkpoints
from transformer_foundry.core.training.checkpointing.directory import step_of

INTERVAL = 5
STEPS_A_KILL = 12
START_S = 8.0
"""Kills without regard to the steps fall this long after the start of the process, at most."""

_FIRST_LINE = re.compile(r"^Training (?:starts|resumes) .*", re.M)


def settings(model: str, kills: int) -> dict[str, object]:
    return {
        "model.source": f"data/01_raw/exports/{model}",
        "run.name": "killed",
        "data.max_documents": 200,
        "training.max_steps": (kills + 2) * STEPS_A_KILL,
        "training.save_steps": INTERVAL,
        "training.eval_steps": 4 * STEPS_A_KILL,
        "training.eval_batches": 2,
        "training.num_samples": 0,
        "training.per_device_train_batch_size": 4,
        "tracking.mode": "offline",
    }


class Killed:
    """A data folder in which a run is trained."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir, self.folder = data_dir, data_dir / "06_models" / "killed"

    def rows(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.is_file() else []
        return [{k: v for k, v in json.loads(line).items() if k not in VOLATILE_METRICS} for line in lines]

    def logged_step(self) -> int:
        rows = self.rows()
        return int(rows[-1]["step"]) if rows else 0

    def saved_step(self) -> int:
        return max(map(step_of, list_checkpoints(self.folder)), default=0)

    def digest(self) -> str:
        newest = list_checkpoints(self.folder)[-1]
        names = ("weights.safetensors", "optimizer.safetensors")
        return hashlib.sha256(b"".join((newest / name).read_bytes() for name in names)).hexdigest()

    def tracked_steps(self) -> list[int]:
        sessions = read_runs(self.data_dir / "08_reporting" / "killed")
        return sorted(row["train/step"] for s in sessions for row in s.history if "train/loss" in row)

    def kill(self, chance: random.Random, chosen: dict[str, object], number: int) -> tuple[int, bool]:
        """Kill a session at a random moment; return the steps that are lost and whether it went wrong."""
        before = self.saved_step()
        target = before + chance.randint(1, STEPS_A_KILL)
        output = self.data_dir / "killed.log"
        deadline = time.monotonic() + chance.uniform(0, START_S) if number % 3 == 0 else math.inf

        def is_time() -> bool:
            if time.monotonic() >= deadline:
                return True
            # The first line comes when the metrics of lost steps are gone.
            if not _FIRST_LINE.search(output.read_text()) or self.logged_step() < target:
                return False
            time.sleep(chance.uniform(0, 0.05))
            return True

        code = kill_when(is_time, self.data_dir, "training", chosen)
        log = output.read_text()
        first = _FIRST_LINE.search(log)
        lost = self.logged_step() - self.saved_step()
        resumes = first is None or before == 0 or f"Training resumes at step {before} " in first.group()
        is_wrong = "Traceback" in log or code != -9 or not resumes
        print(
            f"{number}: from {before} ({first.group() if first else 'killed in the start'}) to "
            f"{self.logged_step()}, saved {self.saved_step()}, lost {lost}{' WRONG' if is_wrong else ''}",
            flush=True,
        )
        if is_wrong:
            print(f"exit code {code}\n{log}", flush=True)
        return lost, is_wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["gpt", "bert", "t5"], default="gpt")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = settings(options.model, options.kills)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Killed(Path(folder) / "whole"), Killed(Path(folder) / "killed")
        prepared = kedro_run(whole.data_dir, "validation,data_engineering", chosen)
        assert prepared.returncode == 0, prepared.stderr
        shutil.copytree(whole.data_dir, killed.data_dir)
        assert kedro_run(whole.data_dir, "training", chosen).returncode == 0
        chance = random.Random(options.seed)
        kills = [killed.kill(chance, chosen, number) for number in range(1, options.kills + 1)]
        last = kedro_run(killed.data_dir, "training", chosen)
        steps = [row["step"] for row in killed.rows()]
        report = {
            "model": options.model,
            "kills": len(kills),
            "sessions that went wrong": sum(is_wrong for _, is_wrong in kills) + (last.returncode != 0),
            "most steps lost": max(lost for lost, _ in kills),
            "same weights and optimizer": killed.digest() == whole.digest(),
            "same metrics": killed.rows() == whole.rows(),
            "same W&B steps": killed.tracked_steps() == steps == whole.tracked_steps(),
        }
    print(json.dumps(report))
    is_good = report["same weights and optimizer"] and report["same metrics"] and report["same W&B steps"]
    return 0 if is_good and not report["sessions that went wrong"] and report["most steps lost"] <= 2 * INTERVAL else 1


if __name__ == "__main__":
    sys.exit(main())
