"""The deployment pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.deployment import nodes

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that packages, registers and publishes the model."""
    return pipeline(
        [
            node(
                nodes.make_package,
                inputs=[
                    "training_run",
                    "model_export",
                    "tokenizer",
                    "token_splits",
                    "validation_report",
                    "data_profile",
                    "evaluation",
                    "params:model",
                    "params:deployment",
                    "earlier_results",
                ],
                outputs="model_package",
                name="make_package",
            ),
            node(
                nodes.register_package,
                inputs=["model_package", "training_run", "params:run", "params:deployment"],
                outputs="model_registry",
                name="register_package",
            ),
            node(
                nodes.publish_package,
                inputs=["model_package", "model_registry", "params:deployment"],
                outputs="hub_publication",
                name="publish_package",
            ),
            node(
                nodes.note_publication,
                inputs=["model_package", "hub_publication", "params:deployment"],
                outputs="published_registry",
                name="note_publication",
            ),
        ]
    )
