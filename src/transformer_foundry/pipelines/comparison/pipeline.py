"""The comparison pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.comparison import nodes

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that trains and compares several models."""
    return pipeline(
        [
            node(
                nodes.compare_models,
                inputs=[
                    "previous_comparison_results",
                    "model_export",
                    "model_approval",
                    "token_splits",
                    "params:training",
                    "params:benchmark",
                    "params:validation",
                ],
                outputs="comparison_results",
                name="compare_models",
            ),
            node(
                nodes.draw_comparison,
                inputs=["comparison_results", "token_splits", "earlier_results"],
                outputs=["comparison", "comparison_table", "comparison_figure"],
                name="draw_comparison",
                tags="figures",
            ),
        ]
    )
