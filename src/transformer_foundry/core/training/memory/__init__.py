"""Memory: the forecast of what a run needs, and the ways to make it fit."""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.training.memory.activation_checkpointing import (
        ActivationCheckpointing as ActivationCheckpointing,
    )
    from transformer_foundry.core.training.memory.activation_checkpointing import (
        prove_activation_checkpointing as prove_activation_checkpointing,
    )
    from transformer_foundry.core.training.memory.batch_size import MemoryPlan as MemoryPlan
    from transformer_foundry.core.training.memory.batch_size import MemoryWishes as MemoryWishes
    from transformer_foundry.core.training.memory.batch_size import fit_memory as fit_memory
    from transformer_foundry.core.training.memory.batch_size import halve as halve
    from transformer_foundry.core.training.memory.batch_size import is_out_of_memory as is_out_of_memory
    from transformer_foundry.core.training.memory.batch_size import memory_budget as memory_budget
    from transformer_foundry.core.training.memory.chunked_loss import ChunkedLoss as ChunkedLoss
    from transformer_foundry.core.training.memory.chunked_loss import prove_chunked_loss as prove_chunked_loss
    from transformer_foundry.core.training.memory.dummy_batch import BatchShape as BatchShape
    from transformer_foundry.core.training.memory.equivalence import Verdict as Verdict
    from transformer_foundry.core.training.memory.forecast import GB as GB
    from transformer_foundry.core.training.memory.forecast import MemoryForecast as MemoryForecast
    from transformer_foundry.core.training.memory.forecast import Workload as Workload
    from transformer_foundry.core.training.memory.forecast import export_bytes as export_bytes
    from transformer_foundry.core.training.memory.forecast import forecast_memory as forecast_memory
    from transformer_foundry.core.training.memory.forecast import optimizer_bytes as optimizer_bytes
    from transformer_foundry.core.training.memory.forecast import update_bytes as update_bytes
    from transformer_foundry.core.training.memory.savings import MemorySavings as MemorySavings
    from transformer_foundry.core.training.memory.savings import prove_savings as prove_savings
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
