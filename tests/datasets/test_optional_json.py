"""A JSON file that need not be there."""

from __future__ import annotations

from pathlib import Path

from transformer_foundry.datasets import OptionalJSONDataset


def test_a_missing_file_loads_as_none_and_a_saved_one_as_it_was(tmp_path: Path) -> None:
    dataset = OptionalJSONDataset(filepath=str(tmp_path / "best.json"))
    assert dataset.load() is None
    dataset.save({"parameters": {"learning_rate": 0.25}})
    assert dataset.load() == {"parameters": {"learning_rate": 0.25}}
