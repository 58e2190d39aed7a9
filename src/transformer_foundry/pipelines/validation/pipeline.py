"""The validation pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.validation.nodes import validate_model

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that judges the exported model."""
    return pipeline(
        [
            node(
                validate_model,
                inputs=["model_export", "params:model", "params:validation"],
                outputs="validation_report",
                name="validate_model",
            )
        ]
    )
