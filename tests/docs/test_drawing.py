"""The drawing of the pipelines can be published."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def test_paths_of_this_machine_become_relative(tmp_path: Path) -> None:
    from drawing import _forget

    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "1").write_text('{"filepath": "/home/me/foundry/data/loss.json", "other": "/tmp/x/conf"}')
    _forget([Path("/home/me/foundry"), Path("/tmp/x")], tmp_path)
    assert (tmp_path / "nodes" / "1").read_text() == '{"filepath": "data/loss.json", "other": "conf"}'


def test_the_pictures_of_the_diagram_are_small_and_of_their_windows() -> None:
    from screenshots import IMAGES, MAX_BYTES, VIEWS

    assert {path.name for path in IMAGES.iterdir()} == set(VIEWS)
    for name, (_, size) in VIEWS.items():
        assert Image.open(IMAGES / name).size == size
        assert (IMAGES / name).stat().st_size <= MAX_BYTES
