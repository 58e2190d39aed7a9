"""Tuning: search hyperparameters; each trial uses the training loop.

Inputs: ``model_export``, ``model_approval``, ``token_splits``, ``previous_study``.
Outputs: ``study``, ``trials``, ``best_parameters``, ``search_comparison``, ``search_*_figure``.
Command: ``kedro run --pipelines tuning``, then train with ``training.use_best=true``. Several processes or
machines with the same ``tuning.storage`` share one study.
"""

from transformer_foundry.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
