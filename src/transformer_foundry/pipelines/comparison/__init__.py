"""Comparison: train several models on the same tokens with the same budget.

Inputs: ``model_export``, ``model_approval``, ``token_splits``, ``previous_comparison_results``.
Outputs: ``comparison_results``, ``comparison``,
``comparison_table``, ``comparison_figure``. It replaces training where ``benchmark.models`` is set:
``kedro run --pipelines training --params benchmark.models=[FOLDER,gpt2]``.
"""

from transformer_foundry.pipelines.comparison.pipeline import create_pipeline

__all__ = ["create_pipeline"]
