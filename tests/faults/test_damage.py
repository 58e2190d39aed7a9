"""Whatever happens to a checkpoint's files, training resumes from intact weights or reports why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.damage import DAMAGES, HARMLESS
from tests.hooks.runs import make_checkpoint, weight_of
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training import newest_checkpoint, write_checkpoint
from transformer_foundry.hooks.drive.checkpoint_sync import CheckpointSync

FILES = ["weights.safetensors", "state.json", "manifest.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("whole")
    for step in (2, 4):
        write_checkpoint(folder, make_checkpoint(step, 5000))
    return folder


def damaged_run(whole: Path, folder: Path, damage: str, file: str, *, steps: tuple[int, ...]) -> Path:
    """A copy of the run with the checkpoints of ``steps``, the newest of them damaged."""
    for step in steps:
        name = f"checkpoints/step-{step:08d}"
        shutil.copytree(whole / name, folder / name)
    DAMAGES[damage](folder / name / file)
    return folder


def reads_well(damage: str, path: Path) -> bool:
    if damage != "not readable":
        return damage in HARMLESS
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    whole: Path, tmp_path: Path, damage: str, file: str
) -> None:
    run, notes = damaged_run(whole, tmp_path, damage, file, steps=(2, 4)), []  # type: ignore[var-annotated]
    newest = newest_checkpoint(run, notes)
    assert newest is not None
    is_well = reads_well(damage, run / "checkpoints" / "step-00000004" / file)
    assert weight_of(newest) == (4.0 if is_well else 2.0)
    assert is_well or "step-00000004" in notes[0]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_only_checkpoint_is_refused_by_name_and_training_does_not_restart(
    whole: Path, tmp_path: Path, damage: str, file: str
) -> None:
    run = damaged_run(whole, tmp_path, damage, file, steps=(4,))
    if reads_well(damage, run / "checkpoints" / "step-00000004" / file):
        assert newest_checkpoint(run) is not None
        return
    with pytest.raises(CheckpointError, match=r"are damaged: step-00000004"):
        newest_checkpoint(run)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_gives_an_older_one_to_a_machine_that_has_nothing(
    whole: Path, tmp_path: Path, damage: str, file: str
) -> None:
    copy = damaged_run(whole, tmp_path / "drive", damage, file, steps=(2, 4))
    is_well = reads_well(damage, copy / "checkpoints" / "step-00000004" / file)
    CheckpointSync(tmp_path / "run", copy).restore()
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None
    assert weight_of(newest) == (4.0 if is_well else 2.0)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_only_copy_is_refused_by_name(whole: Path, tmp_path: Path, damage: str, file: str) -> None:
    copy = damaged_run(whole, tmp_path / "drive", damage, file, steps=(4,))
    if reads_well(damage, copy / "checkpoints" / "step-00000004" / file):
        assert CheckpointSync(tmp_path / "run", copy).restore() is not None
        return
    with pytest.raises(CheckpointError, match="step-00000004"):
        CheckpointSync(tmp_path / "run", copy).restore()
