"""Refuse to train a model with errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.base.errors import TrainingError

__all__ = ["require_sound"]


def require_sound(report: Mapping[str, Any], identity: str, on_errors: str = "refuse") -> None:
    """Raise an exception if the model has errors, or if the report is about another model.

    Args:
        report: ``Report.to_dict()`` with ``model.identity`` beside it, as the validation pipeline writes it.
        identity: Identity of the current model (``ModelSource.identity``).
        on_errors: ``refuse``, or ``warn`` to accept a model with errors.

    Raises:
        TrainingError: If the model has errors, or the report is about another model.
    """
    if report.get("model", {}).get("identity") != identity:
        raise TrainingError(
            f"The validation report is about another model ({report.get('model', {}).get('name', 'unknown')}).",
            "The model has changed since it was validated, or run.name is that of another model.",
            "Run 'kedro run --pipelines validation,data_engineering' again with the same --params.",
        )
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    if errors and on_errors == "refuse":
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise TrainingError(
            f"The model has an error: {errors[0]['message']}{more}",
            f"Where: {errors[0].get('where') or 'model.py'}. {errors[0].get('fix') or ''}",
            "Fix it and export the model again, or train it anyway with --params validation.on_errors=warn.",
        )
