import contextlib
import json
import shutil
import sqlite3

import pytest

from transformer_foundry.core.files.folder_manifest import _seal, read_manifest
from transformer_foundry.hooks.drive.file_sync import FileSync


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def kept(data_dir, tmp_path):
    return FileSync(data_dir, tmp_path / "copy")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def keep(kept, path):
    kept.note(path)
    kept.update()


def copies(tmp_path, name):
    return sorted((tmp_path / "copy" / name).iterdir())


def test_a_file_is_restored(kept, data_dir):
    path = write(data_dir / "report.json", "{}")
    keep(kept, path)
    path.unlink()
    assert kept.restore(path)
    assert path.read_text() == "{}"
    assert [child.name for child in data_dir.iterdir()] == ["report.json"]


def test_a_folder_is_restored_with_its_subfolders(kept, data_dir):
    deep = write(data_dir / "tokens" / "train" / "ids.bin", "12")
    keep(kept, data_dir / "tokens")
    shutil.rmtree(data_dir)
    assert kept.restore(data_dir / "tokens")
    assert deep.read_text() == "12"


def test_an_existing_file_is_not_changed(kept, data_dir):
    path = write(data_dir / "report.json", "old")
    keep(kept, path)
    path.write_text("new")
    assert not kept.restore(path)
    assert path.read_text() == "new"


def test_an_unchanged_file_is_not_copied_again(kept, data_dir, tmp_path):
    path = write(data_dir / "report.json", "{}")
    for _ in range(2):
        keep(kept, path)
    assert len(copies(tmp_path, "report.json")) == 1


def test_the_newest_two_copies_are_kept_and_the_newest_is_restored(kept, data_dir, tmp_path):
    path = data_dir / "report.json"
    for text in ("1", "2", "3"):
        keep(kept, write(path, text))
    assert len(copies(tmp_path, "report.json")) == 2
    path.unlink()
    kept.restore(path)
    assert path.read_text() == "3"


def test_a_damaged_copy_is_skipped_and_named(kept, data_dir, tmp_path, caplog):
    path = data_dir / "report.json"
    for text in ("1", "2"):
        keep(kept, write(path, text))
    newest = copies(tmp_path, "report.json")[-1]
    (newest / "report.json").write_text("3")
    path.unlink()
    assert kept.restore(path)
    assert path.read_text() == "1"
    assert newest.name in caplog.text


def test_an_incomplete_copy_is_not_restored(kept, data_dir, tmp_path):
    path = write(data_dir / "report.json", "{}")
    keep(kept, path)
    (copies(tmp_path, "report.json")[0] / "manifest.json").unlink()
    path.unlink()
    assert not kept.restore(path)


def test_a_copy_that_fails_is_tried_again(kept, data_dir, tmp_path):
    path = write(data_dir / "report.json", "{}")
    write(tmp_path / "copy", "a file where the folder should be")
    kept.note(path)
    with pytest.raises(OSError, match="copy"):
        kept.update()
    (tmp_path / "copy").unlink()
    kept.update()
    assert len(copies(tmp_path, "report.json")) == 1


def test_a_database_is_copied_with_what_is_not_yet_in_its_file(kept, data_dir):
    path = data_dir / "study.db"
    data_dir.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as live:
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("CREATE TABLE trials (number INTEGER)")
        live.execute("INSERT INTO trials VALUES (7)")
        live.commit()
        keep(kept, path)
    shutil.rmtree(data_dir)
    kept.restore(path)
    with contextlib.closing(sqlite3.connect(path)) as restored:
        assert restored.execute("SELECT number FROM trials").fetchall() == [(7,)]


def test_a_folder_with_a_manifest_of_its_own_is_restored_with_it(kept, data_dir):
    package = data_dir / "package"
    write(package / "manifest.json", '{"formats": []}')
    write(package / "code" / "model.py", "pass")
    keep(kept, package / "manifest.json")
    keep(kept, package)
    shutil.rmtree(package)
    assert kept.restore(package)
    assert (package / "manifest.json").read_text() == '{"formats": []}'
    assert (package / "code" / "model.py").read_text() == "pass"
    (package / "manifest.json").unlink()
    assert kept.restore(package / "manifest.json")


def test_a_copy_that_differs_from_its_original_is_made_again(kept, data_dir, tmp_path, monkeypatch):
    from transformer_foundry.core.base.errors import CheckpointError
    from transformer_foundry.hooks.drive import verified_copy

    path = write(data_dir / "report.json", "{}")
    with monkeypatch.context() as patch:
        patch.setattr(verified_copy, "copy_file", lambda source, target, *_: write(target, "torn"))
        with pytest.raises(CheckpointError):
            keep(kept, path)
    kept.update()
    path.unlink()
    assert kept.restore(path)
    assert path.read_text() == "{}"


def make_database(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as live:
        live.execute("CREATE TABLE trials (number INTEGER)")
        live.commit()


def test_a_damaged_database_does_not_take_the_place_of_a_whole_copy(kept, data_dir, tmp_path, caplog):
    path = data_dir / "study.db"
    make_database(path)
    keep(kept, path)
    path.write_bytes(b"no database " * 100)
    for _ in range(3):
        keep(kept, path)
    assert len(copies(tmp_path, "study.db")) == 1
    assert "study.db is damaged: its earlier copies are kept" in caplog.text


def edit_manifest(copy, **changes):
    manifest = read_manifest(copy)
    values = {name: value for name, value in (manifest | changes).items() if value is not None}
    (copy / "manifest.json").write_text(json.dumps({**values, "seal": _seal(values)}) + "\n")


ODD = [{"is_file": None}, {"is_file": "yes"}, {"content": "/etc"}, {"content": []}, {"content": "content"}]


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_a_copy_whose_manifest_is_none_of_a_copy_is_skipped(kept, data_dir, tmp_path, caplog, changes):
    path = write(data_dir / "report.json", "older")
    keep(kept, path)
    path.write_text("newer")
    keep(kept, path)
    edit_manifest(copies(tmp_path, "report.json")[-1], **changes)
    path.unlink()
    assert kept.restore(path)
    assert path.read_text() == "older"
    assert "is skipped: " in caplog.text


def test_a_copy_of_a_file_under_another_name_is_skipped(kept, data_dir, tmp_path):
    path = write(data_dir / "report.json", "mine")
    keep(kept, path)
    (copy,) = copies(tmp_path, "report.json")
    (copy / "report.json").rename(copy / "other.json")
    files = read_manifest(copy)["files"]
    edit_manifest(copy, files={"other.json": files["report.json"]})
    path.unlink()
    assert not kept.restore(path)
    assert list(data_dir.iterdir()) == []


def test_a_folder_with_another_name_than_a_copy_is_none(kept, data_dir, tmp_path):
    path = write(data_dir / "report.json", "mine")
    keep(kept, path)
    (copy,) = copies(tmp_path, "report.json")
    copy.rename(copy.with_name("zzz-name"))
    path.write_text("now")
    keep(kept, path)
    assert [copy.name[:7] for copy in copies(tmp_path, "report.json")] == ["000001-", "zzz-nam"]
