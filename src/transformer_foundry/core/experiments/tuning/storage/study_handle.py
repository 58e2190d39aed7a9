"""Handle of a study: where it is stored, and how to open it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.experiments.tuning.storage.database import load_study, open_storage

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study

__all__ = ["StudyHandle"]


@dataclass(frozen=True)
class StudyHandle:
    """A study in a SQLite file or a database; each method opens it anew.

    Attributes:
        path: The file, which need not exist yet. Checkpoints of paused trials are next to it, also with a URL.
        url: URL of a database that is used instead of the file.
        name: Name of the study in the database.
    """

    path: Path
    url: str | None = None
    name: str = "search"

    def storage(self) -> RDBStorage:
        """Open the storage for a search; a missing file is created.

        Raises:
            TuningError: If it cannot be opened.
        """
        return open_storage(self.url or self.path)

    def study(self) -> Study:
        """Load the study.

        Raises:
            TuningError: If it cannot be opened or has no trials yet.
        """
        return load_study(self.storage(), self.name)

    @property
    def paused_folder(self) -> Path:
        """Folder with the checkpoints of paused trials."""
        return self.path.parent / "paused"
