"""A JSON file that need not be there."""

from __future__ import annotations

from pathlib import Path

import pytest
from kedro.io import DatasetError

from transformer_foundry.core.base.errors import DataError, find_foundry_error
from transformer_foundry.datasets import AtomicJSONDataset, OptionalJSONDataset


def test_a_missing_file_loads_as_none_and_a_saved_one_as_it_was(tmp_path: Path) -> None:
    dataset = OptionalJSONDataset(filepath=str(tmp_path / "best.json"))
    assert dataset.load() is None
    dataset.save({"parameters": {"learning_rate": 0.25}})
    assert dataset.load() == {"parameters": {"learning_rate": 0.25}}


def test_a_damaged_file_does_not_exist_and_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"loss": 2.')
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "cut.json"))
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert "is damaged" in str(find_foundry_error(caught.value))


def test_a_save_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "a.json"))
    dataset.save({"a": 1})
    with pytest.raises(DatasetError):
        dataset.save({"a": object()})
    assert dataset.load() == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_missing_file_that_is_needed_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        AtomicJSONDataset(filepath=str(tmp_path / "none.json")).load()
    assert isinstance(find_foundry_error(caught.value), DataError)
