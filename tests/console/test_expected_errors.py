"""A file that Kedro cannot read or write gives an expected error; a bug does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError
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


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = caught(JSONDataset(filepath=str(tmp_path / "file" / "a.json")).save, {})
    assert f"{tmp_path}/file/a.json cannot be written" in str(error)


def test_an_error_of_the_program_is_not_expected() -> None:
    assert expected_error(TypeError("a fault")) is None
    assert expected_error(DatasetError("a fault")) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_without_space_is_reported_with_the_file_and_a_remedy(number):
    error = expected_error(OSError(number, os.strerror(number), "data/tokens.bin"))
    assert "data/tokens.bin" in str(error)
    assert "data_dir=PATH" in str(error)


def test_an_error_of_a_rust_library_is_recognized_by_its_number():
    error = RuntimeError("I/O error: No space left on device (os error 28)")
    assert "no space is left" in str(expected_error(error))


def test_other_system_errors_are_not_expected():
    assert expected_error(OSError(errno.EINTR, "interrupted")) is None


@pytest.mark.parametrize("kind", ["PlotlyFigureDataset", "FigureDataset", "PackageDataset", "TokenizerDataset"])
def test_a_value_that_its_entry_cannot_keep_is_told_with_the_entry(kind: str, tmp_path: Path) -> None:
    entry = {"type": f"transformer_foundry.datasets.{kind}", "filepath": str(tmp_path / "kept")}
    with pytest.raises(DatasetError) as caught:
        DataCatalog.from_config({"my_figure": entry}).save("my_figure", {"a": 1})
    lines = str(expected_error(caught.value)).splitlines()
    assert lines[0].startswith("my_figure of the catalog cannot keep what the node returned: 'dict' object has no")
    assert (len(lines), kind in lines[1]) == (3, True)
