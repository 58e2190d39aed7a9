"""The search for hyper-parameters: a space, a search over it that survives a kill, and what came of it."""

from transformer_foundry.core.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Dimension": "space",
        "SearchSpace": "space",
        "TrainTrial": "loop",
        "TrialRecord": "records",
        "TuningOptions": "options",
        "history_figure": "figures",
        "load_study": "storage",
        "make_train_trial": "trial_runner",
        "open_storage": "storage",
        "parse_space": "space",
        "search": "loop",
        "summarise": "summary",
        "training_space": "searchable",
        "trial_identity": "trial_runner",
    },
)
