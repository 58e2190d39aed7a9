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
                    "previous_comparison",
                    "model_export",
                    "token_splits",
                    "params:training",
                    "params:benchmark",
                ],
                outputs="comparison_results",
                name="compare_models",
            ),
            node(
                nodes.draw_comparison,
                inputs=["comparison_results"],
                outputs=["comparison", "comparison_table", "comparison_figure"],
                name="draw_comparison",
            ),
        ]
    )
