"""The training pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.training import nodes

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that trains, evaluates, analyzes errors and draws the curves."""
    return pipeline(
        [
            node(
                nodes.train_model,
                inputs=[
                    "previous_run",
                    "model_export",
                    "model_approval",
                    "token_splits",
                    "tokenizer",
                    "best_parameters",
                    "params:model",
                    "params:data",
                    "params:training",
                    "params:validation",
                ],
                outputs="training_run",
                name="train_model",
            ),
            node(
                nodes.evaluate_model,
                inputs=[
                    "training_run",
                    "model_export",
                    "token_splits",
                    "tokenizer",
                    "params:model",
                    "params:training",
                    "earlier_results",
                ],
                outputs=["evaluation", "samples"],
                name="evaluate_model",
            ),
            node(
                nodes.analyze_errors,
                inputs=[
                    "training_run",
                    "model_export",
                    "token_splits",
                    "tokenizer",
                    "params:model",
                    "params:training",
                    "earlier_results",
                ],
                outputs="error_analysis",
                name="analyze_errors",
            ),
            node(
                nodes.draw_errors,
                inputs=["error_analysis"],
                outputs=["confusion_figure", "calibration_figure", "segment_figure"],
                name="draw_errors",
                tags="figures",
            ),
            node(
                nodes.draw_curves,
                inputs=["training_run", "token_splits"],
                outputs=["loss_figure", "learning_rate_figure", "gradient_norm_figure"],
                name="draw_curves",
                tags="figures",
            ),
        ]
    )
