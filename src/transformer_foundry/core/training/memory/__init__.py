"""Memory: the forecast of what a run needs, and the ways to make it fit."""

from transformer_foundry.core.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "ActivationCheckpointing": "activation_checkpointing",
        "ChunkedLoss": "chunked_loss",
        "MemorySavings": "savings",
        "Verdict": "proof",
        "prove_activation_checkpointing": "activation_checkpointing",
        "prove_chunked_loss": "chunked_loss",
        "prove_savings": "savings",
    },
)
