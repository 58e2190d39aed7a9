"""The project's pipelines by name."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from transformer_foundry.core.system.process import is_main_process
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation

__all__ = ["register_pipelines"]


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; the default chains all except tuning and comparison.

    Of the processes that torchrun starts, only the main one evaluates the model and draws the curves.
    """
    named = {
        "validation": validation.create_pipeline(),
        "data_engineering": data_engineering.create_pipeline(),
        "training": training.create_pipeline(),
        "comparison": comparison.create_pipeline(),
        "tuning": tuning.create_pipeline(),
        "deployment": deployment.create_pipeline(),
    }
    if not is_main_process():
        named["training"] = named["training"].filter(node_names=["train_model"])
    chained = named["validation"] + named["data_engineering"] + named["training"] + named["deployment"]
    return {"__default__": chained, **named}
