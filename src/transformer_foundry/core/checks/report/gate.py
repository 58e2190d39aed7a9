"""Refuse to train a model with errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.files.provenance import CODE_VERSION, has_changed, origin_of, settings_text, with_origin

__all__ = ["approve_report", "report_origin", "require_sound"]


def report_origin(model: str, kind: str | None, tier: int) -> dict[str, str | int]:
    """Return what the report of the checks is made from.

    Args:
        model: Identity of the model (``ModelSource.identity``).
        kind: ``model.kind``.
        tier: ``validation.tier``.
    """
    return {"model": model, "parameters": settings_text({"kind": kind, "tier": tier}), "code": CODE_VERSION}


def approve_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a model that ``require_sound`` lets pass: whose it is, and its errors, which were accepted.

    ``require_sound`` takes a verdict as it takes a report.
    """
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    kept = {name: report[name] for name in ("status", "model") if name in report}
    return with_origin(kept | {"findings": errors}, origin_of(report))


def require_sound(report: Mapping[str, Any] | None, identity: str, on_errors: str = "refuse") -> None:
    """Raise an exception if the model has errors, or if the report is about another model.

    Args:
        report: ``Report.to_dict()`` with ``model.identity`` beside it, as the validation pipeline writes it, or the
            verdict on it (``approve_report``); None if there is none.
        identity: Identity of the current model (``ModelSource.identity``).
        on_errors: ``refuse``, or ``warn`` to accept a model with errors.

    Raises:
        TrainingError: If there is no report, it has changed, it is about another model, or the model has errors.
    """
    if report is None:
        raise TrainingError(
            "The model has not been checked.",
            "Expected the verdict of the validation pipeline on it.",
            "Run 'kedro run --pipelines validation' with the same --params first.",
        )
    if has_changed(report):
        raise TrainingError(
            "The validation report has changed since it was written: its digest is another one.",
            "Expected the verdict of the validation pipeline, as it wrote it.",
            "Run 'kedro run --pipelines validation' with the same --params: it is made again.",
        )
    if report.get("model", {}).get("identity") != identity:
        raise TrainingError(
            f"The validation report is about another model ({report.get('model', {}).get('name', 'unknown')}).",
            "The model has changed since it was validated, or run.name is that of another model.",
            "Run 'kedro run --pipelines validation' again with the same --params.",
        )
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    if errors and on_errors == "refuse":
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise TrainingError(
            f"The model has an error: {errors[0]['message']}{more}",
            f"Where: {errors[0].get('where') or 'model.py'}. {errors[0].get('fix') or ''}",
            "Fix it and export the model again, or train it anyway with --params validation.on_errors=warn.",
        )
