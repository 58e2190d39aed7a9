"""A search's study in Optuna's storage: the database, the study's trials and what makes their losses comparable.

Begin with ``database`` (opens the storage) and ``trial_store`` (reads and changes trials). ``optuna_compat`` holds what
is not part of Optuna's documented API.
"""

from transformer_foundry.core.studies.tuning.storage.database import (
    STUDY_NAME,
    StudyHandle,
    load_study,
    open_storage,
)

__all__ = ["STUDY_NAME", "StudyHandle", "load_study", "open_storage"]
