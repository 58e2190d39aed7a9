"""Kedro dataset of the study of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from transformer_foundry.core.experiments.tuning import StudyHandle, TrialResult

__all__ = ["StudyDataset"]


class StudyDataset(AbstractDataset[TrialResult, StudyHandle]):
    """One study, which the search itself writes: two entries, ``previous_study`` and ``study``, share it.

    A trial is in the storage before its result is yielded, so that a search killed between the two loses nothing;
    saving a result checks that it is there.

    Args:
        filepath: The SQLite file.
        storage: URL of a database that replaces the file.
        study_name: Name of the study in the database; a file holds one study, called ``search``.
        metadata: Ignored; for users and plugins.
    """

    def __init__(
        self,
        *,
        filepath: str,
        storage: str | None = None,
        study_name: str = "search",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(filepath)
        self.url = storage
        self.name = study_name if storage else "search"
        self.metadata = metadata

    def load(self) -> StudyHandle:
        """Return a handle on the study, whether or not it exists yet."""
        return StudyHandle(self.path, self.url, self.name)

    def save(self, data: TrialResult) -> None:
        """Check that the trial of the result is stored.

        Raises:
            DatasetError: If it is not there, or has not ended.
        """
        trials = self.load().study().get_trials(deepcopy=False)
        if data.number >= len(trials) or not trials[data.number].state.is_finished():
            raise DatasetError(f"Trial {data.number} is not in the study of {self.path}.")

    def _exists(self) -> bool:
        return self.url is not None or self.path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path), "study_name": self.name}
