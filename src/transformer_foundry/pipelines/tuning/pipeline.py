"""The tuning pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.tuning import nodes

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that searches hyperparameters."""
    return pipeline(
        [
            node(
                nodes.search_parameters,
                inputs=[
                    "previous_study",
                    "model_export",
                    "model_approval",
                    "token_splits",
                    "params:model",
                    "params:training",
                    "params:tuning",
                    "params:validation",
                ],
                outputs="study",
                name="search_parameters",
            ),
            node(
                nodes.draw_search,
                inputs=["study", "model_export", "params:model", "params:training", "params:tuning"],
                outputs=[
                    "trials",
                    "search_history_figure",
                    "search_importance_figure",
                    "search_parallel_figure",
                    "search_timeline_figure",
                ],
                name="draw_search",
                tags="figures",
            ),
            node(
                nodes.confirm_best,
                inputs=[
                    "study",
                    "model_export",
                    "token_splits",
                    "params:model",
                    "params:training",
                    "params:tuning",
                    "earlier_results",
                ],
                outputs=["best_parameters", "search_comparison"],
                name="confirm_best",
            ),
        ]
    )
