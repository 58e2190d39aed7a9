"""Kills ``kedro run`` in tokenising and in export, deletes the whole data folder, and runs it again with Drive's copy.

    python -m tests.faults.lost_machine

Prints a line of JSON for each: whether tokens, final weights and the formats of the package are those of a run that was
left alone. Exit code 1 if they are not. The search is lost in tests/integration/test_lost_machine.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.foundry import kedro_run, kill_when

SETTINGS = {"training.max_steps": 8, "training.num_samples": 0, "data.max_documents": 200}
BEFORE_EXPORT = "validation,data_engineering,training"


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


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        alone, lost = Path(folder) / "alone", Path(folder) / "lost"
        settings = SETTINGS | {"drive.folder": Path(folder) / "drive"}
        for pipelines in (BEFORE_EXPORT, "deployment"):
            assert kedro_run(alone, pipelines, SETTINGS | {"drive.folder": "null"}).returncode == 0
        expected = result(alone)
        tokenising = lose_and_go_on(lost, BEFORE_EXPORT, lost / "05_model_input", settings)
        print(json.dumps({"lost in": "tokenising", **tokenising}), flush=True)
        export = lose_and_go_on(lost, "deployment", lost / "07_model_output", settings)
        print(json.dumps({"lost in": "export", **export}), flush=True)
    is_same = tokenising["weights"] == expected["weights"] and tokenising["tokens"] == expected["tokens"]
    return 0 if is_same and export["formats"] == expected["formats"] else 1


if __name__ == "__main__":
    sys.exit(main())
