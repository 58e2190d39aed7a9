from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from transformer_foundry.core.files.atomic import make_folder, replace_file


def test_a_text_takes_the_place_of_another(tmp_path: Path) -> None:
    for text in ("first", "sec\u014dnd\n"):
        replace_file(tmp_path / "file", text)
        assert (tmp_path / "file").read_bytes() == text.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_leaves_the_old_text_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    replace_file(tmp_path / "file", "first")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"os.{call}", killed)
        with pytest.raises(KeyboardInterrupt):
            replace_file(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    replace_file(tmp_path / "file", "third")
    assert (tmp_path / "file").read_text() == "third"


def test_nothing_is_made_where_a_mount_has_vanished(tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    root = tmp_path / "point" / "drive"
    with pytest.raises(FileNotFoundError):
        make_folder(root / "a" / "b", root)
    assert not list((tmp_path / "point").iterdir())
    root.mkdir()
    make_folder(root / "a" / "b", root)
    assert (root / "a" / "b").is_dir()
