"""Tuning: a search over hyper-parameters, each trial through the same training loop.

Inputs: ``model_export``, ``validation_report``, ``token_splits``, ``previous_study``.
Outputs: ``study``, ``trials``, ``best_parameters``, ``search_comparison``, ``search_*_figure``.
Command: ``kedro run --pipelines tuning``, then train with ``training.use_best=true``. Run it in several processes or on
several machines with one ``tuning.storage``, and they work on one study.
"""

from transformer_foundry.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
