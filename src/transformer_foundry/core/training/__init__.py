"""Training: ``fit`` yields what happens (started, progress, checkpoint) and knows nothing of files or trackers.

``checkpoints`` keeps the states that ``fit`` yields and finds the newest one that is intact; ``evaluate`` and
``sample_texts`` say how good a model is.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "events",
        "CheckpointWriter": "checkpointing.async_writer",
        "Progress": "events",
        "Record": "events",
        "Started": "events",
        "TrainingOptions": "options",
        "TrainingState": "checkpointing.state",
        "VOLATILE_METRICS": "events",
        "begin_with": "pretrained.start",
        "best_checkpoint": "checkpointing.directory",
        "fit": "loop",
        "learning_rate_at": "optim.lr_schedule",
        "list_checkpoints": "checkpointing.directory",
        "newest_checkpoint": "checkpointing.directory",
        "prune_checkpoints": "checkpointing.retention",
        "read_checkpoint": "checkpointing.checkpoint",
        "read_weight_source": "pretrained.source",
        "restore_model": "checkpointing.state",
        "run_identity": "checkpointing.compatibility",
        "transfer_weights": "pretrained.transfer",
        "verify_checkpoint": "checkpointing.directory",
        "vocabulary_digest": "pretrained.source",
        "write_checkpoint": "checkpointing.checkpoint",
    },
)
