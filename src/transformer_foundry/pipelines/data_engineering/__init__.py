"""Data engineering: turn a data source into memory-mapped tokens that fit the model.

Inputs: ``model_export``, and ``model_approval`` if there is one. Outputs: ``contract``, ``corpus``, ``tokenizer``,
``token_splits``, ``data_profile``, figures.
Command: ``kedro run --pipelines data_engineering``.
"""

from transformer_foundry.pipelines.data_engineering.pipeline import create_pipeline

__all__ = ["create_pipeline"]
