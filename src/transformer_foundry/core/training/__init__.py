"""Training. ``fit`` yields events (started, progress, checkpoint); the caller writes files and shows progress.

Begin with ``loop`` (the loop), ``build_trainer`` (the parts and how they are made) and ``train_step`` (one update).
``checkpointing`` writes the states that ``fit`` yields and finds the newest intact one; ``optim``, ``memory``,
``monitoring`` and ``pretrained`` hold what their names say.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.training.checkpointing.async_writer import CheckpointWriter as CheckpointWriter
    from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint as read_checkpoint
    from transformer_foundry.core.training.checkpointing.checkpoint import write_checkpoint as write_checkpoint
    from transformer_foundry.core.training.checkpointing.compatibility import run_identity as run_identity
    from transformer_foundry.core.training.checkpointing.directory import best_checkpoint as best_checkpoint
    from transformer_foundry.core.training.checkpointing.directory import list_checkpoints as list_checkpoints
    from transformer_foundry.core.training.checkpointing.directory import newest_checkpoint as newest_checkpoint
    from transformer_foundry.core.training.checkpointing.directory import verify_checkpoint as verify_checkpoint
    from transformer_foundry.core.training.checkpointing.retention import prune_checkpoints as prune_checkpoints
    from transformer_foundry.core.training.checkpointing.state import TrainingState as TrainingState
    from transformer_foundry.core.training.checkpointing.state import restore_model as restore_model
    from transformer_foundry.core.training.events import VOLATILE_METRICS as VOLATILE_METRICS
    from transformer_foundry.core.training.events import Checkpoint as Checkpoint
    from transformer_foundry.core.training.events import Event as Event
    from transformer_foundry.core.training.events import Progress as Progress
    from transformer_foundry.core.training.events import Started as Started
    from transformer_foundry.core.training.loop import fit as fit
    from transformer_foundry.core.training.memory.planning import evaluation_savings as evaluation_savings
    from transformer_foundry.core.training.monitoring.rehearsal_report import REHEARSAL as REHEARSAL
    from transformer_foundry.core.training.monitoring.rehearsal_report import add_rehearsal as add_rehearsal
    from transformer_foundry.core.training.optim.learning_rate import learning_rate_at as learning_rate_at
    from transformer_foundry.core.training.options import TrainingOptions as TrainingOptions
    from transformer_foundry.core.training.pretrained.source import read_weight_source as read_weight_source
    from transformer_foundry.core.training.pretrained.source import vocabulary_digest as vocabulary_digest
    from transformer_foundry.core.training.pretrained.start import load_initial_weights as load_initial_weights
    from transformer_foundry.core.training.pretrained.transfer import transfer_weights as transfer_weights
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
