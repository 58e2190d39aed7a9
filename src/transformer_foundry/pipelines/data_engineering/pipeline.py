"""The data engineering pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from transformer_foundry.pipelines.data_engineering import nodes

__all__ = ["create_pipeline"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that tokenizes and profiles the data."""
    return pipeline(
        [
            node(
                nodes.read_contract,
                inputs=["model_export", "params:model", "earlier_results"],
                outputs="contract",
                name="read_contract",
            ),
            node(
                nodes.read_data,
                inputs=["contract", "params:data", "model_approval"],
                outputs="corpus",
                name="read_data",
            ),
            node(
                nodes.fit_tokenizer,
                inputs=["corpus", "contract", "params:data", "earlier_results"],
                outputs="tokenizer",
                name="fit_tokenizer",
            ),
            node(
                nodes.prepare_tokens,
                inputs=["corpus", "tokenizer", "contract", "params:data", "earlier_results"],
                outputs="token_splits",
                name="prepare_tokens",
            ),
            node(
                nodes.profile_data,
                inputs=["token_splits", "tokenizer", "earlier_results"],
                outputs="data_profile",
                name="profile_data",
            ),
            node(
                nodes.draw_data,
                inputs=["token_splits", "data_profile"],
                outputs=["data_table", "length_figure", "token_figure", "label_figure"],
                name="draw_data",
                tags="figures",
            ),
        ]
    )
