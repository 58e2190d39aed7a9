"""Models side by side: drawings and reference architectures, trained on the same tokens with the same budget."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "BenchmarkOptions": "options",
        "Member": "models",
        "MemberResult": "run",
        "compare_models": "run",
        "comparison_figure": "figure",
        "comparison_table": "table",
        "comparison_text": "table",
        "find_members": "models",
        "mean_interval": "confidence",
        "summarise": "table",
    },
)
