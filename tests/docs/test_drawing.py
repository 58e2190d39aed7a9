"""The drawing of the pipelines can be published."""

from __future__ import annotations

from pathlib import Path


def test_paths_of_this_machine_become_relative(tmp_path: Path) -> None:
    from drawing import _forget

    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "1").write_text('{"filepath": "/home/me/foundry/data/loss.json", "other": "/tmp/x/conf"}')
    _forget([Path("/home/me/foundry"), Path("/tmp/x")], tmp_path)
    assert (tmp_path / "nodes" / "1").read_text() == '{"filepath": "data/loss.json", "other": "conf"}'
