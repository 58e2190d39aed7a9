"""Kedro dataset of the study of a search."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import Version

from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.studies.tuning import StudyHandle, TrialResult
from transformer_foundry.core.studies.tuning.storage.study_copies import restore_study
from transformer_foundry.datasets.storage.location import local_path, refuse_version

__all__ = ["StudyDataset"]


class StudyDataset(AbstractDataset[TrialResult, StudyHandle]):
    """One study, which the search itself writes: two entries, ``previous_study`` and ``study``, share it.

    A trial is in the storage before its result is yielded, so that a search killed between the two loses nothing;
    saving a result checks that it is there. The study exists if its search has ended.

    Args:
        filepath: The SQLite file, on this machine.
        storage: URL of a database that replaces the file.
        study_name: Name of the study in the database; a file holds one study, called ``search``.
        version: Refused: a search continues.
        metadata: Ignored; for users and plugins.

    Raises:
        ParameterError: If ``filepath`` is not on this machine, or for ``versioned: true``.
    """

    # The processes of a search coordinate through its storage; a copy of an open one in another process breaks it.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        *,
        filepath: str,
        storage: str | None = None,
        study_name: str = "search",
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.path = local_path(
            filepath,
            "A study needs a file of this machine, which SQLite locks; paused trials are kept beside it.",
            "Use a local path, share the search with tuning.storage=postgresql+psycopg2://..., or set drive.folder.",
        )
        refuse_version(version, f"The study in {filepath} is continued.", "Remove 'versioned', or set run.preparation.")
        self.url = storage
        self.name = study_name if storage else "search"
        self.metadata = metadata
        self._is_verified = False

    @property
    def place(self) -> str:
        """What two entries of one study have in common, without a password."""
        return str(self.path.absolute()) if self.url is None else f"{redact(self.url)} ({self.name})"

    def load(self) -> StudyHandle:
        """Return a handle on the study, whether or not it exists yet.

        The first time, a damaged file is replaced by its newest copy.

        Raises:
            TuningError: If it is damaged and has no copy.
        """
        if self.url is None and not self._is_verified:
            restore_study(self.path)
            self._is_verified = True
        return StudyHandle(self.path, self.url, self.name)

    def save(self, data: TrialResult) -> None:
        """Check that the trial of the result is stored.

        Raises:
            DatasetError: If it is not there, or has not ended.
        """
        trials = self.load().study().get_trials(deepcopy=False)
        if data.number >= len(trials) or not trials[data.number].state.is_finished():
            raise DatasetError(f"Trial {data.number} is not in the study of {self.path}.")

    def is_readable(self) -> bool:
        """Return whether a search has started, finished or not."""
        return self.url is not None or self.path.is_file()

    def _exists(self) -> bool:
        return self.is_readable() and self.load().has_ended()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path), "study_name": self.name}
