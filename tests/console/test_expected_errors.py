"""A file that Kedro cannot read or write is told in three lines; a fault of the program keeps its traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from kedro.io import DatasetError
from kedro_datasets.json import JSONDataset

from transformer_foundry.console.expected_errors import expected_error
from transformer_foundry.core.base.errors import FoundryError


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_writing_is_told_with_the_file_and_what_to_do(number):
    error = expected_error(OSError(number, os.strerror(number), "data/tokens.bin"))
    assert "data/tokens.bin" in str(error)
    assert "data_dir=PATH" in str(error)


def test_an_error_of_a_library_in_rust_is_known_by_its_number():
    error = RuntimeError("I/O error: No space left on device (os error 28)")
    assert "no space is left" in str(expected_error(error))


def test_any_other_error_of_the_system_is_none():
    assert expected_error(OSError(errno.EINTR, "interrupted")) is None
