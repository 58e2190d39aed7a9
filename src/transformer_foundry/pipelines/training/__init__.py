"""Training: train the model on the tokens, evaluate it and draw its curves.

Inputs: ``model_export``, ``model_approval``, ``tokenizer``, ``token_splits``, ``previous_run``, ``best_parameters``.
Outputs: ``training_run``, ``evaluation``, ``samples``, ``error_analysis``, six figures. Command:
``kedro run --pipelines training``; after an interruption the same command resumes from the newest checkpoint.
"""

from transformer_foundry.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
