"""Training: ``fit`` yields what happens (started, progress, checkpoint) and knows nothing of files or trackers.

``checkpoints`` keeps the states that ``fit`` yields and finds the newest one that is intact; ``evaluate`` and
``sample_texts`` say how good a model is.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "records",
        "CheckpointWriter": "writer",
        "Precision": "precision",
        "Progress": "records",
        "Record": "records",
        "Started": "records",
        "TrainingOptions": "options",
        "TrainingState": "state",
        "VOLATILE_METRICS": "records",
        "begin_with": "initialisation",
        "best_checkpoint": "generations",
        "choose_precision": "precision",
        "evaluate": "evaluation",
        "fit": "loop",
        "generate": "generation",
        "learning_rate_at": "schedules",
        "list_checkpoints": "generations",
        "measure_texts": "samples",
        "newest_checkpoint": "generations",
        "prune_checkpoints": "retention",
        "read_checkpoint": "checkpoints",
        "read_weight_source": "weight_sources",
        "restore_model": "state",
        "run_identity": "resume",
        "sample_texts": "samples",
        "transfer_weights": "weight_transfer",
        "verify_checkpoint": "generations",
        "vocabulary_digest": "weight_sources",
        "write_checkpoint": "checkpoints",
    },
)
