"""The search for hyper-parameters: a space, a search over it that survives a kill, and what came of it."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Dimension": "space",
        "FolderStates": "paused_checkpoints",
        "MemoryStates": "paused_checkpoints",
        "SearchSpace": "space",
        "TrainTrial": "search_loop",
        "TrialRecord": "results.trial_result",
        "TuningOptions": "options",
        "best_trial": "results.summary",
        "compare_with_default": "results.confirmation",
        "confirm": "results.confirmation",
        "history_figure": "results.figures",
        "importance_figure": "results.figures",
        "load_study": "storage",
        "make_full_training": "train_trial",
        "make_train_trial": "train_trial",
        "model_space": "train_trial",
        "open_storage": "storage",
        "parallel_figure": "results.figures",
        "parse_space": "space",
        "paused_states": "train_trial",
        "search": "search_loop",
        "timeline_figure": "results.figures",
        "training_space": "default_spaces",
        "trial_identity": "train_trial",
        "trials_table": "results.summary",
    },
)
