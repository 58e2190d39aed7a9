"""Forecast the memory of a run, and choose micro-batches and savings that fit a budget.

``planning`` decides; ``batch_size`` searches, ``forecast`` and ``simulation`` compute peaks, ``savings`` verifies and
switches on the chunked loss and activation checkpointing.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.training.memory.activation_checkpointing import (
        ActivationCheckpointing as ActivationCheckpointing,
    )
    from transformer_foundry.core.training.memory.activation_checkpointing import (
        verify_activation_checkpointing as verify_activation_checkpointing,
    )
    from transformer_foundry.core.training.memory.batch_size import MemoryConstraints as MemoryConstraints
    from transformer_foundry.core.training.memory.batch_size import MemoryPlan as MemoryPlan
    from transformer_foundry.core.training.memory.batch_size import fit_memory as fit_memory
    from transformer_foundry.core.training.memory.batch_size import halve as halve
    from transformer_foundry.core.training.memory.batch_size import is_out_of_memory as is_out_of_memory
    from transformer_foundry.core.training.memory.batch_size import memory_budget as memory_budget
    from transformer_foundry.core.training.memory.chunked_loss import ChunkedLoss as ChunkedLoss
    from transformer_foundry.core.training.memory.chunked_loss import verify_chunked_loss as verify_chunked_loss
    from transformer_foundry.core.training.memory.dummy_batch import BatchShape as BatchShape
    from transformer_foundry.core.training.memory.equivalence import EquivalenceResult as EquivalenceResult
    from transformer_foundry.core.training.memory.forecast import GB as GB
    from transformer_foundry.core.training.memory.forecast import MemoryForecast as MemoryForecast
    from transformer_foundry.core.training.memory.forecast import TrainingWorkload as TrainingWorkload
    from transformer_foundry.core.training.memory.forecast import export_bytes as export_bytes
    from transformer_foundry.core.training.memory.forecast import forecast_memory as forecast_memory
    from transformer_foundry.core.training.memory.forecast import optimizer_bytes as optimizer_bytes
    from transformer_foundry.core.training.memory.forecast import update_bytes as update_bytes
    from transformer_foundry.core.training.memory.savings import MemorySavings as MemorySavings
    from transformer_foundry.core.training.memory.savings import verify_savings as verify_savings
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
