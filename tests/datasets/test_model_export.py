"""The exported model as a catalog entry."""

from __future__ import annotations

from pathlib import Path

import pytest
from kedro.io import DatasetError

from tests.integration.foundry import SAMPLES
from transformer_foundry.core.base.errors import ModelError, find_foundry_error
from transformer_foundry.datasets import ModelExportDataset


def test_a_folder_is_read(tmp_path: Path) -> None:
    export = ModelExportDataset(source=str(SAMPLES / "gpt"), cache_dir=str(tmp_path)).load()
    assert export.name == "SampleGPT"
    assert export.config["vocab_size"] == 512


def test_a_missing_folder_ends_in_the_expected_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        ModelExportDataset(source=str(tmp_path / "nowhere"), cache_dir=str(tmp_path)).load()
    assert isinstance(find_foundry_error(caught.value), ModelError)


def test_nothing_is_written_into_an_export(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="read-only"):
        ModelExportDataset(source=str(SAMPLES / "gpt"), cache_dir=str(tmp_path)).save("text")  # type: ignore[arg-type]
