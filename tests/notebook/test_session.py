"""Running pipelines from a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.notebook.session import find_project, run


def test_the_project_is_found_from_a_folder_inside_it() -> None:
    assert find_project(PROJECT / "notebooks") == PROJECT


def test_a_folder_outside_a_clone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not inside a clone"):
        find_project(tmp_path)


def test_an_expected_error_is_shown_without_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    with pytest.raises(ParameterError) as caught:
        run("training", data_dir=str(tmp_path), training={"learning_rat": 1})
    assert caught.value.__suppress_context__
    assert caught.value._render_traceback_() == f"error: {caught.value}".splitlines()
