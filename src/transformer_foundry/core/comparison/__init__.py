"""Models side by side: drawings and reference architectures, trained on the same tokens with the same budget."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "BenchmarkOptions": "options",
        "Member": "members",
        "MemberResult": "running",
        "compare_models": "running",
        "comparison_figure": "figure",
        "comparison_table": "report",
        "comparison_text": "report",
        "find_members": "members",
        "mean_interval": "statistics",
        "summarise": "report",
    },
)
