"""The validation pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.validation.nodes import check_model, judge_model

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that checks the exported model.

    Kedro runs independent nodes in the order of their names: in the default pipeline these two run before the data is
    read.
    """
    return pipeline(
        [
            node(
                check_model,
                inputs=["model_export", "params:model", "params:validation"],
                outputs=["validation_report", "validation_figure"],
                name="check_model",
            ),
            node(
                judge_model,
                inputs=["validation_report", "model_export", "params:validation"],
                outputs=None,
                name="judge_model",
            ),
        ]
    )
