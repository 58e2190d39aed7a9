"""The validation pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.validation.nodes import check_export, judge_model

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that checks the exported model.

    Its last output, ``model_approval``, is an input of what the verdict guards.
    """
    return pipeline(
        [
            node(
                check_export,
                inputs=[
                    "model_export",
                    "params:model",
                    "params:validation",
                    "params:training",
                    "previous_splits",
                    "earlier_results",
                ],
                outputs=["validation_report", "validation_figure"],
                name="check_model",
            ),
            node(
                judge_model,
                inputs=["validation_report", "model_export", "params:validation"],
                outputs="model_approval",
                name="judge_model",
            ),
        ]
    )
