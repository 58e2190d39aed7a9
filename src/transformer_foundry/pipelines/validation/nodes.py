"""Nodes of the validation pipeline."""

from __future__ import annotations

from typing import Any

from transformer_foundry.core import checks
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.models import ModelSource
from transformer_foundry.core.models.options import ModelOptions

__all__ = ["check_model", "judge_model"]


def check_model(
    model_export: ModelSource, model: ModelOptions, validation: ValidationOptions
) -> tuple[dict[str, Any], Any]:
    """Return the report of the checks with the model they were made of, and its figure."""
    report = checks.run_checks(model_export, kind=model.kind, tier=validation.tier)
    judged = {"model": {"name": model_export.name, "identity": model_export.identity}}
    return report.to_dict() | judged, checks.draw_report(report)


def judge_model(
    validation_report: dict[str, Any],
    model_export: ModelSource,
    validation: ValidationOptions,
) -> None:
    """Stop here when the model has errors, before data and training cost time."""
    require_sound(validation_report, model_export.identity, validation.on_errors)
