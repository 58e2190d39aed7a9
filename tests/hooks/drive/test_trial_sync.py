import shutil

import pytest

from tests.hooks.drive.test_file_sync import make_database
from tests.hooks.runs import Run, make_checkpoint, weight_of
from transformer_foundry.core.training import write_checkpoint
from transformer_foundry.hooks.drive.callback import DriveCallback
from transformer_foundry.hooks.drive.trial_sync import TrialSync


@pytest.fixture
def paused(tmp_path):
    return tmp_path / "tuning" / "paused"


@pytest.fixture
def copy(paused, tmp_path):
    return TrialSync(paused, tmp_path / "copy")


def pause(paused, number, step=4):
    return write_checkpoint(paused / f"trial-{number}", make_checkpoint(step))


def copies(tmp_path):
    return sorted(path.parent.parent.parent.name for path in (tmp_path / "copy").rglob("manifest.json"))


def test_a_paused_trial_is_copied_once(copy, paused, tmp_path):
    pause(paused, 3)
    assert [copy.update() for _ in range(3)] == [True, True, False]
    assert copies(tmp_path) == ["trial-3"]


def test_paused_trials_of_a_lost_machine_are_restored(copy, paused, tmp_path):
    folder = pause(paused, 3)
    copy.update()
    shutil.rmtree(paused)
    assert TrialSync(paused, tmp_path / "copy").restore() == 1
    assert weight_of(folder) == 4.0


def test_a_copy_is_deleted_with_its_checkpoint(copy, paused, tmp_path):
    pause(paused, 3)
    pause(paused, 5)
    copy.update()
    shutil.rmtree(paused / "trial-3")
    assert copy.update()
    assert copies(tmp_path) == ["trial-5"]


def test_a_session_that_restored_nothing_deletes_nothing(copy, paused, tmp_path):
    pause(paused, 3)
    copy.update()
    shutil.rmtree(paused)
    assert not TrialSync(paused, tmp_path / "copy").update()
    assert copies(tmp_path) == ["trial-3"]


def test_damaged_checkpoints_are_neither_copied_nor_restored(copy, paused, tmp_path):
    folder = pause(paused, 3)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    copy.update()
    assert copies(tmp_path) == []
    whole = pause(paused, 5)
    copy.update()
    (tmp_path / "copy" / whole.relative_to(paused) / "state.json").write_text("{")
    shutil.rmtree(paused)
    assert TrialSync(paused, tmp_path / "copy").restore() == 0
    assert not paused.exists()


def test_an_incomplete_copy_is_made_again(copy, paused, tmp_path):
    folder = pause(paused, 3)
    copy.update()
    target = tmp_path / "copy" / folder.relative_to(paused)
    (target / "weights.safetensors").write_bytes(b"half")
    TrialSync(paused, tmp_path / "copy").update()
    assert weight_of(target) == 4.0


def test_the_paused_trials_of_a_search_are_restored_before_it_resumes(tmp_path):
    run = Run(tmp_path / "data", DriveCallback(), sections={"drive": {"folder": str(tmp_path / "drive")}})
    study = run.data_dir / "06_models" / "gpt" / "tuning" / "study.db"
    run.files["study"] = {"type": "transformer_foundry.datasets.StudyDataset", "filepath": str(study)}
    run.files["previous_study"] = run.files["study"]
    run.begin(inputs=("previous_study",), outputs=("study",))
    folder = pause(study.parent / "paused", 3)
    run.end()
    shutil.rmtree(run.data_dir)
    run.begin(inputs=("previous_study",), outputs=("study",))
    assert weight_of(folder) == 4.0
    run.end()


def test_a_damaged_study_without_a_copy_beside_it_is_restored_from_drive(tmp_path, caplog):
    run = Run(tmp_path / "data", DriveCallback(), sections={"drive": {"folder": str(tmp_path / "drive")}})
    study = run.data_dir / "06_models" / "gpt" / "tuning" / "study.db"
    entry = {"type": "transformer_foundry.datasets.StudyDataset", "filepath": str(study)}
    for damage in (None, b"no database " * 100):
        run.files |= {"study": entry, "previous_study": entry}
        if damage is not None:
            study.write_bytes(damage)
        run.begin(inputs=("previous_study",), outputs=("study",))
        if damage is None:
            make_database(study)
            run.show("study", None)
        run.end()
    assert study.read_bytes()[:6] == b"SQLite"
    assert "It is kept as study-aside-1.db" in caplog.text
