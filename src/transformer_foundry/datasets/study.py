"""The study of a search as a catalog entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError

from transformer_foundry.core.tuning import TrialRecord

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study

__all__ = ["StudyDataset", "StudyFile"]


@dataclass(frozen=True)
class StudyFile:
    """A study in one SQLite file; each method opens the file anew.

    Args:
        path: The file, which need not exist yet.
    """

    path: Path

    def storage(self) -> RDBStorage:
        """Return the storage for a search, which makes the file if it is missing.

        Raises:
            TuningError: If the file cannot be opened.
        """
        from transformer_foundry.core.tuning import open_storage

        return open_storage(self.path)

    def study(self) -> Study:
        """Return the study that is kept in the file.

        Raises:
            TuningError: If the file cannot be opened or no search has begun in it.
        """
        from transformer_foundry.core.tuning import load_study

        return load_study(self.storage())


class StudyDataset(AbstractDataset[TrialRecord, StudyFile]):
    """One SQLite file, which the search itself writes: two entries, ``previous_study`` and ``study``, share it.

    A trial is in the storage before its record is yielded, so that a search killed between the two loses nothing;
    saving a record checks just that.

    Args:
        filepath: The SQLite file.
        metadata: Ignored; for users and plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(filepath)
        self.metadata = metadata

    def load(self) -> StudyFile:
        """Return a handle on the file, whether or not it exists yet."""
        return StudyFile(self.path)

    def save(self, data: TrialRecord) -> None:
        """Check that the trial of the record is kept in the file.

        Raises:
            DatasetError: If it is not there, or has not ended.
        """
        trials = StudyFile(self.path).study().get_trials(deepcopy=False)
        if data.number >= len(trials) or not trials[data.number].state.is_finished():
            raise DatasetError(f"Trial {data.number} is not kept in {self.path}.")

    def _exists(self) -> bool:
        return self.path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}
