"""The search for hyper-parameters: a space, a search over it that survives a kill, and what came of it."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Dimension": "space",
        "FolderStates": "states",
        "MemoryStates": "states",
        "SearchSpace": "space",
        "TrainTrial": "loop",
        "TrialRecord": "records",
        "TuningOptions": "options",
        "best_trial": "summary",
        "compare_with_default": "confirmation",
        "confirm": "confirmation",
        "history_figure": "figures",
        "importance_figure": "figures",
        "load_study": "storage",
        "make_full_training": "trial_runner",
        "make_train_trial": "trial_runner",
        "model_space": "trial_runner",
        "open_storage": "storage",
        "parallel_figure": "figures",
        "parse_space": "space",
        "paused_states": "trial_runner",
        "search": "loop",
        "timeline_figure": "figures",
        "training_space": "searchable",
        "trial_identity": "trial_runner",
        "trials_table": "summary",
    },
)
