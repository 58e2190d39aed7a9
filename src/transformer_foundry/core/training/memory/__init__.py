"""Memory: the forecast of what a run needs, and the ways to make it fit."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "ActivationCheckpointing": "activation_checkpointing",
        "BatchShape": "dummy_batch",
        "ChunkedLoss": "chunked_loss",
        "GB": "forecast",
        "MemoryForecast": "forecast",
        "MemoryPlan": "batch_size",
        "MemorySavings": "savings",
        "MemoryWishes": "batch_size",
        "Verdict": "equivalence",
        "Workload": "forecast",
        "export_bytes": "forecast",
        "fit_memory": "batch_size",
        "forecast_memory": "forecast",
        "halve": "batch_size",
        "is_out_of_memory": "batch_size",
        "memory_budget": "batch_size",
        "optimizer_bytes": "forecast",
        "prove_activation_checkpointing": "activation_checkpointing",
        "prove_chunked_loss": "chunked_loss",
        "prove_savings": "savings",
        "update_bytes": "forecast",
    },
)
