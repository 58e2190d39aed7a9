"""Kills ``kedro run`` in tokenising, in export and in trial 7 of 12, deletes the whole data folder, and runs it again.

    python -m tests.faults.lost_machine [--only search|export]

Only Drive's copy is left. Prints a line of JSON for each: whether tokens, final weights and the formats of the package
are those of a run that was left alone; how many trials of the search were trained again, in whole or to where they had
been paused; and whether it ended with the trials and losses of a search that was left alone. Twelve is the budget: the
steps of twelve full trials, of which paused ones take their share. Exit code 1 if the results differ, or more than one
trial was trained again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.foundry import kedro_run, kill_when

SETTINGS = {"training.max_steps": 8, "training.num_samples": 0, "data.max_documents": 200}
PREPARATION = "validation,data_engineering"
BEFORE_EXPORT = f"{PREPARATION},training"
SEARCH = SETTINGS | {"tuning.n_trials": 12, "tuning.max_steps": 20, "tuning.confirm_steps": 4}
STUDY = Path("06_models") / "gpt" / "tuning" / "study.db"


def result(data_dir: Path) -> dict[str, Any]:
    """What must be the same; missing entries were not made."""
    found: dict[str, Any] = {}
    tokens = sorted(path for path in (data_dir / "05_model_input").rglob("*") if path.is_file())
    found["tokens"] = hashlib.sha256(
        b"".join(path.read_bytes() for path in tokens if path.suffix != ".json")
    ).hexdigest()
    manifest = data_dir / "06_models" / "gpt" / "manifest.json"
    if manifest.is_file():
        found["weights"] = json.loads(manifest.read_text())["result"]
    package = data_dir / "07_model_output" / "gpt" / "manifest.json"
    if package.is_file():
        found["formats"] = {item["format"]: item["status"] for item in json.loads(package.read_text())["formats"]}
    return found


def lose_and_go_on(data_dir: Path, pipelines: str, made: Path, settings: dict[str, object]) -> dict[str, Any]:
    """Kill the pipelines when ``made`` begins to appear, lose the machine, and run them again."""
    code = kill_when(lambda: made.is_dir() and any(made.iterdir()), data_dir, pipelines, settings)
    shutil.rmtree(data_dir)
    again = kedro_run(data_dir, pipelines, settings)
    assert again.returncode == 0, again.stderr
    restored = [line for line in again.stdout.splitlines() if "Restored" in line]
    return {"killed": code == -9, "restored": restored, **result(data_dir)}


def trials_in(database: Path) -> dict[int, tuple[str, int, float]]:
    """Number -> state, last step and loss of each trial that was trained, to its end or to where it was paused."""
    query = (
        "SELECT number, state, step, intermediate_value FROM trials JOIN trial_intermediate_values USING (trial_id) "
        "ORDER BY number, step"
    )
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as study:
        return {number: (state, step, loss) for number, state, step, loss in study.execute(query)}
    return {}


def started_over(database: Path) -> int:
    """Trials that had been paused and whose checkpoint was not there when they went on."""
    query = "SELECT COUNT(*) FROM trial_user_attributes WHERE key = 'restarted'"
    with contextlib.closing(sqlite3.connect(database)) as study:
        return int(study.execute(query).fetchone()[0])


def lose_search(root: Path) -> dict[str, Any]:
    """Lose the machine in trial 7 of 12 and end the search on another one; then what was trained again."""
    alone, data_dir, drive = root / "search-alone", root / "search", root / "drive-search"
    settings = SEARCH | {"drive.folder": drive}
    assert kedro_run(alone, PREPARATION + ",tuning", SEARCH | {"drive.folder": "null"}).returncode == 0
    assert kedro_run(data_dir, PREPARATION, settings).returncode == 0
    live = data_dir / STUDY
    code = kill_when(lambda: live.is_file() and count(trials_in(live), "COMPLETE") >= 6, data_dir, "tuning", settings)
    before = trials_in(live)
    shutil.rmtree(data_dir)
    kept = trials_in(max((drive / "files" / STUDY).glob("*/manifest.json")).with_name("study.db"))
    again = kedro_run(data_dir, "tuning", settings)
    assert again.returncode == 0, again.stderr
    after = trials_in(live)
    lost = [number for number, trial in before.items() if trial[1] > kept.get(number, ("", 0, 0.0))[1]]
    return {
        "killed": code == -9,
        "before": {state: count(before, state) for state in ("COMPLETE", "WAITING", "RUNNING")},
        "restored": [line for line in again.stdout.splitlines() if "Restored" in line],
        "trials trained again": len(lost) + started_over(live),
        "results kept": all(after.get(number) == trial for number, trial in kept.items() if trial[0] == "COMPLETE"),
        "same trials and losses": after == trials_in(alone / STUDY),
        **steps_in(after),
    }


def steps_in(trials: dict[int, tuple[str, int, float]]) -> dict[str, Any]:
    """How the budget was spent: trials that are complete and paused, and full trainings that their steps amount to."""
    full = sum(step for _, step, _ in trials.values()) / SEARCH["tuning.max_steps"]
    return {"complete": count(trials, "COMPLETE"), "paused": count(trials, "WAITING"), "full trainings": full}


def count(trials: dict[int, tuple[str, int, float]], state: str) -> int:
    return sum(trial[0] == state for trial in trials.values())


def lose_preparation_and_export(root: Path) -> bool:
    """Lose the machine in tokenising and in export; return whether everything came out as on one left alone."""
    alone, lost = root / "alone", root / "lost"
    settings: dict[str, object] = SETTINGS | {"drive.folder": root / "drive"}
    for pipelines in (BEFORE_EXPORT, "deployment"):
        assert kedro_run(alone, pipelines, SETTINGS | {"drive.folder": "null"}).returncode == 0
    expected = result(alone)
    tokenising = lose_and_go_on(lost, BEFORE_EXPORT, lost / "05_model_input", settings)
    print(json.dumps({"lost in": "tokenising", **tokenising}), flush=True)
    export = lose_and_go_on(lost, "deployment", lost / "07_model_output", settings)
    print(json.dumps({"lost in": "export", **export}), flush=True)
    is_same = tokenising["weights"] == expected["weights"] and tokenising["tokens"] == expected["tokens"]
    return bool(is_same and export["formats"] == expected["formats"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["search", "export"], help="one of the two parts")
    only, is_good = parser.parse_args().only, True
    with tempfile.TemporaryDirectory() as folder:
        if only != "search":
            is_good = lose_preparation_and_export(Path(folder))
        if only != "export":
            search = lose_search(Path(folder))
            print(json.dumps({"lost in": "trial 7 of 12", **search}), flush=True)
            is_good = is_good and search["same trials and losses"] and search["trials trained again"] <= 1
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
