"""Kills every stage at random moments, on machines with and without Drive that may be lost, and compares the results.

    python -m tests.faults.kill_campaign [--kills 100] [--seed 0]

Four lives of a data folder: without Drive, with Drive, and with Drive where every second kill deletes the whole data
folder (a causal and a masked model). In each life every stage is killed with SIGKILL at random moments of its expected
time, and then runs to its end. What it leaves is compared with a run of the same settings that was left alone: tokens,
weights, optimizer, rows of metrics and of W&B's offline files, trials, the digest of the package, names of files. At
the end of a life with Drive, an empty machine restores everything, and every file has the same bytes. Prints a line
for each kill and each difference; exit code 1 if there is a difference.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.lost_machine import trials_in
from tests.integration import command_server
from tests.integration.foundry import PROJECT, arguments, environment
from tests.loopback.wandb_offline_reader import read_runs
from transformer_foundry.core.training import VOLATILE_METRICS, list_checkpoints

STAGES = ("validation", "data_engineering", "training", "tuning", "deployment")
NAME = "killed"
SETTINGS: dict[str, object] = {
    "run.name": NAME,
    "data.max_documents": 120,
    "training.max_steps": 10,
    "training.save_steps": 2,
    "training.eval_steps": 4,
    "training.eval_batches": 2,
    "training.num_samples": 1,
    "training.sample_tokens": 8,
    "tuning.n_trials": 3,
    "tuning.max_steps": 4,
    "tuning.confirm_steps": 2,
    "deployment.formats": "[onnx]",
    "tracking.mode": "offline",
}
LOSS_CHANCE = 0.5
"""How often a kill also deletes the data folder, in the lives whose machines are lost."""

_CHANGES = re.compile(
    r"/wandb/|report\.html$|\.lock$|/tuning/copies/|/tuning/study\.db$|/registry/log\.jsonl$|/tracking\.json$"
)
"""What a later command writes again, what names sessions, and how much of the offline files of the machine was logged,
which are lost with it: not compared byte by byte."""

_RANDOM_NAMES = (
    (re.compile(r"(step-\d+)-[0-9a-f]{6}"), r"\1"),
    (re.compile(r"copies/\d+-[0-9a-f]+\.db"), "copies/N.db"),
    (re.compile(r"tokens/[0-9a-f]{16}/"), "tokens/N/"),
)
_SET_ASIDE = re.compile(r"/aside-\d+-step-")
"""Steps later than the one from which training resumed, and damaged checkpoints: kept on purpose, two at most."""


@dataclass
class Life:
    """A data folder whose commands are killed.

    Attributes:
        name: For the report.
        model: Name of a bundled export.
        root: Folder of everything.
        with_drive: Whether copies are made.
        is_lost: Whether kills may delete the data folder.
    """

    name: str
    model: str
    root: Path
    with_drive: bool = False
    is_lost: bool = False
    differences: list[str] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def settings(self) -> dict[str, object]:
        drive = self.root / "drive" if self.with_drive else "null"
        return SETTINGS | {"model.source": f"data/01_raw/exports/{self.model}", "drive.folder": drive}

    def start(self, stage: str) -> Any:
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        variables = environment() | {"TMPDIR": str(self.root / "tmp")}
        with self.log.open("w") as output:
            return command_server.start(
                arguments(self.data_dir, stage, self.settings), PROJECT, output, output, variables
            )

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    def differ(self, what: str) -> None:
        self.differences.append(f"{self.name}: {what}")
        print(f"DIFFERENT {self.differences[-1]}", flush=True)

    def end(self, stage: str) -> float:
        """Run the stage to its end; return its seconds."""
        began = time.monotonic()
        if (code := self.start(stage).wait()) != 0:
            self.differ(f"{stage} ended with {code}:\n{self.log.read_text()[-3000:]}")
        return time.monotonic() - began

    def kill(self, stage: str, after_s: float, is_lost: bool) -> tuple[float, bool]:
        """Kill the stage some seconds after it has begun; return its seconds, and whether it had not ended yet."""
        process = self.start(stage)
        while process.poll() is None and not self.log.stat().st_size:
            time.sleep(0.005)
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < after_s:
            time.sleep(0.005)
        process.kill()
        code, text, after_s = process.wait(), self.log.read_text(), time.monotonic() - began
        last = text.strip().splitlines()[-1][:110] if text.strip() else "nothing printed"
        print(
            f"{self.name}: {stage} {'killed' if code == -9 else f'ended with {code}'} after {after_s:.1f} s"
            f"{', machine lost' if is_lost else ''} ({last})",
            flush=True,
        )
        if code not in (-9, 0) or "Traceback" in text:
            self.differ(f"{stage}, killed after {after_s:.1f} s, went wrong with {code}:\n{text[-3000:]}")
        for warning in re.findall(r"^.*(?:WARNING|warning:).*$", text, re.M):
            print(f"    {warning[:300]}", flush=True)
        if is_lost:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        return after_s, code == -9


def results(life: Life, stage: str) -> Iterator[tuple[str, Any]]:
    """Yield what the stage has made, under a name, as it must be the same in every life."""
    data, run = life.data_dir, life.data_dir / "06_models" / NAME
    reports = data / "08_reporting" / NAME
    if stage == "validation":
        report = json.loads((reports / "validation_report.json").read_text())
        yield "findings", [report["status"], report["findings"]]
    elif stage == "data_engineering":
        yield "tokens and tokenizer", digests(data / "05_model_input")
        yield "profile", (reports / "data_profile.json").read_bytes()
    elif stage == "training":
        newest = list_checkpoints(run)[-1]
        for name in ("weights.safetensors", "optimizer.safetensors", "samples.jsonl"):
            yield name, hashlib.sha256((newest / name).read_bytes()).hexdigest()
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        yield "metrics", [{k: v for k, v in row.items() if k not in VOLATILE_METRICS} for row in rows]
        yield "samples", (run / "samples.jsonl").read_text()
        yield "evaluation", json.loads((reports / "evaluation.json").read_text())
        yield "error analysis", json.loads((reports / "error_analysis.json").read_text())
        logged = [row for session in read_runs(reports) for row in session.history if "train/loss" in row]
        yield "W&B rows", sorted((row["train/step"], row["train/loss"]) for row in logged)
    elif stage == "tuning":
        yield "trials", trials_in(run / "tuning" / "study.db")
        yield "best parameters", json.loads((run / "tuning" / "best_parameters.json").read_text())
        with (reports / "trials.csv").open() as file:
            # A killed trial starts again, and the table says truly how many steps were trained.
            yield "table of trials", [{**row, "seconds": None, "steps_trained": None} for row in csv.DictReader(file)]
    else:
        package = data / "07_model_output" / NAME
        yield "package", digests(package)
        versions = sorted(path.name for path in (data / "registry").glob("*/*"))
        yield "registry", [versions, [digests(path) for path in sorted((data / "registry").glob("*/v*"))]]


def digests(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compare(life: Life, expected: dict[str, Any], stage: str) -> None:
    """Report each result of the stage that is not as expected."""
    try:
        found = dict(results(life, stage))
    except (OSError, KeyError, ValueError, IndexError) as err:
        return life.differ(f"{stage} left something that cannot be read: {err!r}")
    for name, value in found.items():
        if value != expected[name]:
            life.differ(f"{name} after {stage}: {difference(expected[name], value)}")


def difference(expected: Any, found: Any) -> str:
    """Return in words how two values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        return ", ".join(f"{name}: {expected.get(name)!r:.150} -> {found.get(name)!r:.150}" for name in names[:6])
    return f"{expected!r:.600} -> {found!r:.600}"


def names(folder: Path) -> set[str]:
    """Return the relative paths of all files, without what is random in them."""
    found = set()
    for path in folder.rglob("*"):
        name = f"/{path.relative_to(folder)}"
        if path.is_file() and "/wandb/" not in name and not _SET_ASIDE.search(name):
            for pattern, text in _RANDOM_NAMES:
                name = pattern.sub(text, name)
            found.add(name)
    return found


def look_for_litter(life: Life, whole: Life) -> None:
    """Report files that a run which was left alone does not have, there and in the temporary folder."""
    for name in sorted(names(life.data_dir) - names(whole.data_dir)):
        life.differ(f"left behind: {name}")
    if life.with_drive:
        for path in sorted((life.root / "drive").rglob("*")):
            if re.search(r"\.new\d*$|\.old$|\.restored$|\.tmp$|\.write-test", path.name):
                life.differ(f"left behind on Drive: {path.relative_to(life.root)}")
        for copy in (path for path in (life.root / "drive" / "files").rglob("0*-*-*-*") if path.is_dir()):
            if not (copy / "manifest.json").is_file():
                life.differ(f"unfinished copy on Drive: {copy.relative_to(life.root)}")
    left = sorted(path.name for path in (life.root / "tmp").iterdir())
    print(f"{life.name}: {len(left)} entries left in the temporary folder: {left[:20]}", flush=True)


def look_for_processes(life: Life) -> None:
    """Report processes that have outlived their command."""
    time.sleep(3)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={life.root}/".encode() in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if int(entry.name) != os.getpid():
                    life.differ(f"process {entry.name} is left: {command[:200]}")


def restore(life: Life, expected: dict[str, Any]) -> None:
    """Lose the machine once more, and compare what an empty one restores byte by byte."""
    kept = life.data_dir.with_name("kept")
    life.data_dir.rename(kept)
    life.end(",".join(STAGES))
    before, after = digests(kept), digests(life.data_dir)
    for name, digest in before.items():
        path = f"/{name}"
        is_old_checkpoint = "/checkpoints/" in path and list_checkpoints(kept / "06_models" / NAME)[-1].name not in path
        if after.get(name) != digest and not _CHANGES.search(path) and not is_old_checkpoint:
            life.differ(f"on an empty machine {name} is {'another file' if name in after else 'missing'}")
    # The machine before may never have had the study: a command restores what it reads.
    if trials_in(life.data_dir / "06_models" / NAME / "tuning" / "study.db") != expected["trials"]:
        life.differ("on an empty machine the study has other trials")


def live(life: Life, whole: Life, expected: dict[str, Any], expected_s: dict[str, float], args: Any) -> int:
    """Kill each stage, let it end and compare; return the number of kills."""
    chance, kills = random.Random(f"{args.seed} {life.name}"), 0
    for stage in STAGES:
        left_s, wanted = expected_s[stage], kills + args.kills // (len(STAGES) * 4)
        while kills < wanted:
            is_lost = life.is_lost and chance.random() < LOSS_CHANCE
            took_s, is_killed = life.kill(stage, chance.uniform(0, left_s), is_lost)
            kills += is_killed
            left_s = expected_s[stage] if is_lost else left_s if is_killed else min(left_s, took_s)
        life.end(stage)
        compare(life, expected, stage)
    look_for_litter(life, whole)
    look_for_processes(life)
    if life.with_drive:
        restore(life, expected)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="20 times the kills of each stage in each life")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a part of the names of the lives")
    parser.add_argument("--folder", help="where everything is written and stays; a temporary folder without it")
    args = parser.parse_args()
    began, kills, differences = time.monotonic(), 0, []
    command_server.run([sys.executable, "-c", ""], PROJECT, environment())  # the first one waits for the imports
    temporary = tempfile.TemporaryDirectory(prefix="kill-campaign-")
    with contextlib.nullcontext(args.folder) if args.folder else temporary as folder:
        root = Path(folder)
        lives = [
            Life("alone", "gpt", root / "alone"),
            Life("drive", "gpt", root / "drive", with_drive=True),
            Life("lost", "gpt", root / "lost", with_drive=True, is_lost=True),
            Life("lost-bert", "bert", root / "lost-bert", with_drive=True, is_lost=True),
        ]
        lives = [life for life in lives if not args.only or args.only in life.name]
        for model in dict.fromkeys(life.model for life in lives):
            whole = Life(f"whole {model}", model, root / f"whole-{model}")
            expected_s, expected = {}, {}
            for stage in STAGES:
                expected_s[stage] = whole.end(stage)
                expected.update(results(whole, stage))
            print(f"{model}: " + ", ".join(f"{stage} {s:.1f} s" for stage, s in expected_s.items()), flush=True)
            for life in (life for life in lives if life.model == model):
                kills += live(life, whole, expected, expected_s, args)
                differences += life.differences
    print(json.dumps({"kills": kills, "differences": len(differences), "seconds": round(time.monotonic() - began)}))
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
