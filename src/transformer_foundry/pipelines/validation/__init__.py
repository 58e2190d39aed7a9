"""Validation: check the exported model; report what is wrong, where, and how to fix it.

Inputs: ``model_export``. Outputs: ``validation_report``, ``validation_figure``, ``model_approval``.
Command: ``kedro run --pipelines validation``. The checks are in ``core.checks``.
"""

from transformer_foundry.pipelines.validation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
