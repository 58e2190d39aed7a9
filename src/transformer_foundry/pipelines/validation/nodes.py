"""Nodes of the validation pipeline."""

from __future__ import annotations

from typing import Any

from transformer_foundry.core import checks
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.models import ModelSource
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.pipelines.types import MatplotlibFigure

__all__ = ["check_model", "judge_model"]


def check_model(
    model_export: ModelSource, model: ModelOptions, validation: ValidationOptions
) -> tuple[dict[str, Any], MatplotlibFigure]:
    """Check the model; return the report, with the identity of the model, and its figure."""
    report = checks.run_checks(model_export, kind=model.kind, tier=validation.tier)
    checked = {"model": {"name": model_export.name, "identity": model_export.identity}}
    return report.to_dict() | checked, checks.draw_report(report)


def judge_model(
    validation_report: dict[str, Any],
    model_export: ModelSource,
    validation: ValidationOptions,
) -> None:
    """Refuse a model with errors, before data and training take time."""
    require_sound(validation_report, model_export.identity, validation.on_errors)
