"""Kedro dataset of a JSON file that may be missing."""

from __future__ import annotations

from typing import Any

from kedro_datasets.json import JSONDataset

__all__ = ["OptionalJSONDataset"]


class OptionalJSONDataset(JSONDataset):  # type: ignore[misc]  # kedro_datasets has no types
    """``json.JSONDataset`` whose ``load`` returns None if the file is missing: the result of an optional pipeline."""

    def load(self) -> Any:
        """Return the content of the file, or None if there is no file."""
        return super().load() if super()._exists() else None

    def _exists(self) -> bool:
        return True
