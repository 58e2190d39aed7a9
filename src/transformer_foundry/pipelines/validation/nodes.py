"""Nodes of the validation pipeline."""

from __future__ import annotations

from typing import Any

from transformer_foundry.core import checks
from transformer_foundry.core import training as core_training
from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import approve_report, report_origin, require_sound
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.files.provenance import with_origin
from transformer_foundry.core.models import ModelSource
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK
from transformer_foundry.pipelines.reuse import EarlierResults, earlier_of, is_up_to_date
from transformer_foundry.pipelines.types import MatplotlibFigure

__all__ = ["check_export", "judge_model"]


def check_export(
    model_export: ModelSource,
    model: ModelOptions,
    validation: ValidationOptions,
    training: TrainingOptions,
    previous_splits: TokenSplits | None,
    earlier_results: EarlierResults,
) -> tuple[dict[str, Any], MatplotlibFigure]:
    """Check the model, and rehearse its training if data are prepared; return report and figure.

    An earlier report of the same checks of the same model is kept, unless it is about data and settings too.
    """
    model, training = as_options(ModelOptions, model, "model"), as_options(TrainingOptions, training, "training")
    validation = as_options(ValidationOptions, validation, "validation")
    origin = report_origin(model_export.identity, model.kind, validation.tier)
    report, figure = earlier_of(earlier_results, 0, 1)
    if report and any(finding["check"] == core_training.REHEARSAL for finding in report["findings"]):
        report = None
    if report and figure and is_up_to_date(report, origin, "validation", f"{model_export.name} is checked"):
        return report, figure
    with RANDOM_LOCK.hold():
        found = checks.run_checks(model_export, kind=model.kind, tier=validation.tier)
        found = core_training.add_rehearsal(
            found, model_export, previous_splits, training, kind=model.kind, task=model.task
        )
        checked = {"model": {"name": model_export.name, "identity": model_export.identity}}
        return with_origin(found.to_dict() | checked, origin), checks.draw_report(found, origin)


def judge_model(
    validation_report: dict[str, Any],
    model_export: ModelSource,
    validation: ValidationOptions,
) -> dict[str, Any]:
    """Refuse a model with errors, before data and training take time; return the verdict, which they wait for."""
    validation = as_options(ValidationOptions, validation, "validation")
    require_sound(validation_report, model_export.identity, validation.on_errors)
    return approve_report(validation_report)
