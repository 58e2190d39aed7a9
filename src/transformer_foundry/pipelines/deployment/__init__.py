"""Deployment: package and verify the trained model; publish it when ``deployment.hub_repo`` is set.

Inputs: ``model_export``, ``training_run``, ``tokenizer``, ``validation_report``, ``data_profile``, ``evaluation``.
Outputs: ``model_package``, ``model_registry``, ``hub_publication``. Command: ``kedro run --pipelines deployment``.
"""

from transformer_foundry.pipelines.deployment.pipeline import create_pipeline

__all__ = ["create_pipeline"]
