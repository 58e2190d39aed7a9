"""Memory: the forecast of what a run needs, and the ways to make it fit."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "ActivationCheckpointing": "activation_checkpointing",
        "BatchShape": "synthetic",
        "ChunkedLoss": "chunked_loss",
        "GB": "forecast",
        "MemoryForecast": "forecast",
        "MemoryPlan": "fitting",
        "MemorySavings": "savings",
        "MemoryWishes": "fitting",
        "Verdict": "equivalence",
        "Workload": "forecast",
        "available_bytes": "heap",
        "export_bytes": "forecast",
        "fit_memory": "fitting",
        "forecast_memory": "forecast",
        "halve": "fitting",
        "is_out_of_memory": "fitting",
        "memory_budget": "fitting",
        "optimizer_bytes": "forecast",
        "prove_activation_checkpointing": "activation_checkpointing",
        "prove_chunked_loss": "chunked_loss",
        "prove_savings": "savings",
        "return_freed_memory": "heap",
        "update_bytes": "forecast",
    },
)
