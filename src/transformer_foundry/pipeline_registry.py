"""The project's pipelines by name."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from transformer_foundry.core.system.process import is_main_process
from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation

__all__ = ["register_pipelines"]


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines; the default chains all but tuning, which takes longer than a first run should.

    Of the processes that torchrun starts, only the first evaluates and draws what was trained.
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
