"""A file that Kedro cannot read or write is told in three lines; a fault of the program keeps its traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from kedro.io import DatasetError
from kedro_datasets.json import JSONDataset

from transformer_foundry.core.errors import FoundryError
from transformer_foundry.failures import expected_error


def caught(action: object, *arguments: object) -> FoundryError | None:
    with pytest.raises(DatasetError) as info:
        action(*arguments)  # type: ignore[operator]
    return expected_error(info.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{")
    error = caught(JSONDataset(filepath=str(tmp_path / "report.json")).load)
    assert f"{tmp_path}/report.json cannot be read" in str(error)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = caught(JSONDataset(filepath=str(tmp_path / "file" / "a.json")).save, {})
    assert f"{tmp_path}/file/a.json cannot be written" in str(error)


def test_an_error_of_the_program_is_not_expected() -> None:
    assert expected_error(TypeError("a fault")) is None
    assert expected_error(DatasetError("a fault")) is None
