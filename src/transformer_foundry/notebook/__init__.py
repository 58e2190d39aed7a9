"""Helpers for notebooks: run pipelines, show the verdict, try the model."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "answer": "try_model",
        "describe_machine": "validation_view",
        "find_project": "session",
        "free_memory": "try_model",
        "memory_sentence": "validation_view",
        "run": "session",
        "show_batch": "try_model",
        "show_model": "session",
        "structure_table": "validation_view",
        "verdict_html": "validation_view",
    },
)
