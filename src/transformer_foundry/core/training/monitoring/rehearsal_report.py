"""A rehearsal of training as one more finding about a model, for data that an earlier command prepared."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import FoundryError, TrainingError
from transformer_foundry.core.checks.probing.drawn_graph import read_graph
from transformer_foundry.core.checks.probing.finding import finding_at
from transformer_foundry.core.checks.probing.location import Locator
from transformer_foundry.core.checks.probing.source_map import SourceMap
from transformer_foundry.core.models.adapter import Adapter, load_model
from transformer_foundry.core.system.precision import kernels
from transformer_foundry.core.training.build_trainer import build_trainer
from transformer_foundry.core.training.monitoring.preflight import require_fit
from transformer_foundry.core.training.monitoring.rehearsal import rehearse

if TYPE_CHECKING:
    from transformer_foundry.core.checks.probing.finding import Finding
    from transformer_foundry.core.checks.report.report import Report
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.models.source.read import ModelSource
    from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["REHEARSAL", "add_rehearsal"]

REHEARSAL = "rehearsal"
"""Name of the finding; it depends on the data and on the settings of training too."""


def add_rehearsal(
    report: Report,
    export: ModelSource,
    splits: TokenSplits | None,
    options: TrainingOptions,
    *,
    kind: str | None = None,
    task: str | None = None,
) -> Report:
    """Return ``report`` with what a rehearsal of training finds.

    There is none for a model with errors, without data, and with data of another model or task.

    Args:
        report: The report of the checks.
        export: The model.
        splits: Prepared data; None if there are none yet.
        options: How it is to be trained.
        kind: The kind of the model; None infers it.
        task: The task of the model; None infers it.
    """
    if splits is None or any(finding.severity == "error" for finding in report.findings):
        return report
    adapter = load_model(export, kind=kind, task=task, seed=options.seed)
    try:
        require_fit(adapter, splits)
    except TrainingError:
        return report
    try:
        with kernels(deterministic=options.deterministic, tf32=options.tf32):
            rehearse(build_trainer(adapter, splits, options))
    except FoundryError as err:
        return dataclasses.replace(report, findings=(_finding(err, adapter, export), *report.findings))
    return report


def _finding(error: FoundryError, adapter: Adapter, export: ModelSource) -> Finding:
    locator = Locator(adapter.model, SourceMap(adapter.model, export.model_file), read_graph(export.config))
    message = f"{error.problem} {error.expected}"
    return finding_at(REHEARSAL, "error", message, locator.raised(error), error.remedy)
