"""The project's address is written where a user needs it, and can be changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat

from tests.docs.pages import PROJECT


def test_the_address_gives_badges_and_the_archive_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    from address import write_address

    for name in ("README.md", "CITATION.cff", "notebooks/template.ipynb", "notebooks/training.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    write_address("first/home", "main", tmp_path)
    write_address("second/home", "trunk", tmp_path)

    written = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert not [name for name, text in written.items() if "first/home" in text]
    assert written["README.md"].count("![Open in Colab]") == 2
    assert written["CITATION.cff"].count("repository-code: https://github.com/second/home") == 1
    assert written["template.ipynb"].count("second/home/blob/trunk/notebooks/training.ipynb") == 2
    for name in ("template", "training"):
        cells = nbformat.read(tmp_path / "notebooks" / f"{name}.ipynb", as_version=4).cells
        badge = f"https://colab.research.google.com/github/second/home/blob/trunk/notebooks/{name}.ipynb"
        assert f"]({badge})\n\n# " in cells[0].source
        assert 'ARCHIVE = "https://github.com/second/home/archive/refs/heads/trunk.zip"  # @param' in cells[1].source
