"""Training: from tokens to a trained model, its evaluation and its curves.

Inputs: ``model_export``, ``validation_report``, ``tokenizer``, ``token_splits``, ``previous_run``, ``best_parameters``.
Outputs: ``training_run``, ``evaluation``, ``samples``, ``error_analysis``, six figures. Command:
``kedro run --pipelines training``; run again after an interruption, it goes on from the newest checkpoint.
"""

from transformer_foundry.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
