"""Search hyper-parameters: spaces, a search that survives a kill, and its results.

Begin with ``search_loop.search``; ``train_trial`` connects it to the training of a model.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.studies.tuning.default_spaces import training_space as training_space
    from transformer_foundry.core.studies.tuning.options import TuningOptions as TuningOptions
    from transformer_foundry.core.studies.tuning.paused_checkpoints import FolderCheckpoints as FolderCheckpoints
    from transformer_foundry.core.studies.tuning.paused_checkpoints import PausedCheckpoints as PausedCheckpoints
    from transformer_foundry.core.studies.tuning.results.confirmation import (
        compare_with_default as compare_with_default,
    )
    from transformer_foundry.core.studies.tuning.results.confirmation import confirm as confirm
    from transformer_foundry.core.studies.tuning.results.figures import history_figure as history_figure
    from transformer_foundry.core.studies.tuning.results.figures import importance_figure as importance_figure
    from transformer_foundry.core.studies.tuning.results.figures import parallel_figure as parallel_figure
    from transformer_foundry.core.studies.tuning.results.figures import timeline_figure as timeline_figure
    from transformer_foundry.core.studies.tuning.results.summary import best_trial as best_trial
    from transformer_foundry.core.studies.tuning.results.summary import search_origin as search_origin
    from transformer_foundry.core.studies.tuning.results.summary import shown_trials as shown_trials
    from transformer_foundry.core.studies.tuning.results.summary import trials_digest as trials_digest
    from transformer_foundry.core.studies.tuning.results.summary import trials_table as trials_table
    from transformer_foundry.core.studies.tuning.results.trial_result import TrialResult as TrialResult
    from transformer_foundry.core.studies.tuning.search_loop import TrainTrial as TrainTrial
    from transformer_foundry.core.studies.tuning.search_loop import search as search
    from transformer_foundry.core.studies.tuning.space import Dimension as Dimension
    from transformer_foundry.core.studies.tuning.space import SearchSpace as SearchSpace
    from transformer_foundry.core.studies.tuning.space import parse_space as parse_space
    from transformer_foundry.core.studies.tuning.storage import StudyHandle as StudyHandle
    from transformer_foundry.core.studies.tuning.storage import load_study as load_study
    from transformer_foundry.core.studies.tuning.storage import open_storage as open_storage
    from transformer_foundry.core.studies.tuning.train_trial import confirm_settings as confirm_settings
    from transformer_foundry.core.studies.tuning.train_trial import make_full_training as make_full_training
    from transformer_foundry.core.studies.tuning.train_trial import make_train_trial as make_train_trial
    from transformer_foundry.core.studies.tuning.train_trial import model_space as model_space
    from transformer_foundry.core.studies.tuning.train_trial import paused_checkpoints_in as paused_checkpoints_in
    from transformer_foundry.core.studies.tuning.train_trial import trial_identity as trial_identity
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
