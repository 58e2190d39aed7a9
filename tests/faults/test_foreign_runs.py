"""Files of a run that came from someone else: any value in them ends in words, and hides no other run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.core.training.tiny import checkpoints, make_splits, run
from transformer_foundry.cli import cli
from transformer_foundry.core.files.folder_manifest import _seal
from transformer_foundry.core.training import write_checkpoint
from transformer_foundry.core.training.checkpointing.run_request import (
    read_request,
    request_differences,
    unchanged_sources,
)
from transformer_foundry.datasets import TrainingRunDataset

SOUND = {"parameters": {"model": {"source": "mine"}}, "sessions": [{"started_at": "2026"}], "total_steps": 4}
MANIFESTS: list[dict[str, Any]] = [
    {"sessions": 5}, {"sessions": [1]}, {"sessions": {"a": 1}}, {"parameters": [1]}, {"parameters": {"model": "x"}},
    {"environment": [1]}, {"identity": 3}, {"result": "x"}, {"total_steps": "x"},
]  # fmt: skip
LOSSES: list[Any] = [{"train": "x", "eval": {}}, {"train": 10**400, "eval": [1]}, 5, None]
ROWS = [
    '{"step": "x"}', '{"step": null}', '{"train/loss": "x", "step": 1}', '{"eval/loss": {}, "step": 1}',
    '{"train/loss": 1%s, "step": 1}' % ("0" * 400), '{"eval/loss": "x", "step": 1}\n{"eval/loss": 1.0, "step": 2}',
]  # fmt: skip
STATES = [{"options": [1]}, {"identity": "x"}, {"counters": {"step": "x"}}, {"aliases": {"a": 5}}]
REQUESTS: list[Any] = [5, ["x"], "a\0b", "a" * 5000, "~nobody/x"]


@pytest.fixture(scope="module")
def state() -> Any:
    return checkpoints(run(splits=make_splits(), max_steps=4, num_samples=0))[-1]


@pytest.fixture
def foreign(tmp_path: Path, state: Any) -> Path:
    """A foreign run beside one of the user."""
    for name in ("mine", "foreign"):
        write_checkpoint(tmp_path / "06_models" / name, state)
        (tmp_path / "06_models" / name / "manifest.json").write_text(json.dumps(SOUND))
    return tmp_path / "06_models" / "foreign"


def ends_in_words(folder: Path) -> None:
    for words in ("runs list", "runs compare mine foreign", "checkpoints list foreign", "checkpoints inspect foreign"):
        done = CliRunner().invoke(cli, [*words.split(), "--data-dir", str(folder.parent.parent)])
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
        assert words != "runs list" or "\nmine " in done.output
    dataset = TrainingRunDataset(filepath=str(folder))
    dataset.exists()


def change_checkpoint(folder: Path, **values: Any) -> None:
    """Change the manifest of the checkpoint, and its seal; what is None is removed."""
    (file,) = folder.glob("checkpoints/*/manifest.json")
    content = json.loads(file.read_text()) | values
    del content["seal"]
    content = {name: value for name, value in content.items() if value is not None}
    file.write_text(json.dumps(content | {"seal": _seal(content)}))


@pytest.mark.parametrize("values", MANIFESTS, ids=str)
def test_a_manifest_of_other_types_is_damaged(foreign: Path, values: dict[str, Any]) -> None:
    (foreign / "manifest.json").write_text(json.dumps(SOUND | values))
    ends_in_words(foreign)


def test_losses_and_rows_of_other_types_are_left_out(foreign: Path) -> None:
    for losses in LOSSES:
        change_checkpoint(foreign, losses=losses)
        ends_in_words(foreign)
    change_checkpoint(foreign, losses=None, reason=None, written_at=None)
    for rows in ROWS:
        (foreign / "metrics.jsonl").write_text(rows + "\n")
        ends_in_words(foreign)


def test_a_state_of_other_types_is_damaged(foreign: Path) -> None:
    (file,) = foreign.glob("checkpoints/*/state.json")
    before = file.read_text()
    for change in STATES:
        file.write_text(json.dumps(json.loads(before) | change))
        entry = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "size": file.stat().st_size}
        files = json.loads(file.with_name("manifest.json").read_text())["files"] | {"state.json": entry}
        change_checkpoint(foreign, files=files)
        ends_in_words(foreign)


def test_a_request_of_other_types_is_another_one(foreign: Path) -> None:
    for source in REQUESTS:
        recorded = {"model.source": source, "data.source": source, "model.files": "a", "data.files": "b"}
        (foreign / "request.json").write_text(json.dumps(recorded))
        assert read_request(foreign) == recorded
        assert unchanged_sources(recorded) == {}
        assert request_differences(recorded, {"model.files": "c"})
