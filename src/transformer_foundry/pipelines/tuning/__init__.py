"""Tuning: a search over hyper-parameters, each trial through the same training loop.

Inputs: ``model_export``, ``validation_report``, ``token_splits``, ``previous_study``.
Outputs: ``study``, ``trials``, ``best_parameters``, ``search_history_figure``.
Command: ``kedro run --pipelines tuning``, then train with ``training.use_best=true``.
"""

from transformer_foundry.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
