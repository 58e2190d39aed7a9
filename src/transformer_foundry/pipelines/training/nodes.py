"""Nodes of the training pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from transformer_foundry.core import models
from transformer_foundry.core import training as core_training
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.evaluation import error_analysis as core_error_analysis
from transformer_foundry.core.evaluation.assess import assess
from transformer_foundry.core.experiments.tuning.results.best_parameters import use_best_parameters
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.reports import training_curves
from transformer_foundry.core.training.checkpointing.training_run import TrainingRun
from transformer_foundry.core.training.events import Event
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.types import Adapter, Figure

__all__ = ["analyze_errors", "draw_curves", "evaluate_model", "train_model"]


def train_model(
    previous_run: TrainingRun,
    model_export: ModelSource,
    validation_report: dict[str, Any],
    token_splits: TokenSplits,
    tokenizer: Tokenizer,
    best_parameters: dict[str, Any] | None,
    model: ModelOptions,
    data: DataOptions,
    training: TrainingOptions,
    validation: ValidationOptions,
) -> Iterator[Event]:
    """Train the model, from the newest checkpoint if there is one; yield the events of training."""
    require_sound(validation_report, model_export.identity, validation.on_errors)
    options = use_best_parameters(training, best_parameters, model_export.identity, token_splits.fingerprint)
    adapter = models.load_model(model_export, kind=model.kind, task=model.task, seed=options.seed)
    state = previous_run.latest()
    vocabulary = core_training.vocabulary_digest(tokenizer)
    start = core_training.load_initial_weights(
        adapter,
        model.init_from,
        state=state,
        manifest=previous_run.manifest,
        runs_folder=previous_run.folder.parent,
        vocabulary=vocabulary,
    )
    described = {"kind": adapter.contract.kind, "task": adapter.contract.task, "vocabulary": vocabulary}
    yield from core_training.fit(
        adapter,
        token_splits,
        options,
        tokenizer=tokenizer,
        resume_from=state,
        identity=core_training.run_identity(model_export, token_splits, tokenizer),
        manifest={
            "parameters": {"model": asdict(model), "data": asdict(data)},
            "seeds": {"data": data.seed},
            "model": described,
            **start,
        },
    )


def evaluate_model(
    training_run: TrainingRun,
    model_export: ModelSource,
    token_splits: TokenSplits,
    tokenizer: Tokenizer,
    model: ModelOptions,
    training: TrainingOptions,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate the checkpoint with the lowest validation loss; return its metrics and samples."""
    from transformer_foundry.core.system.precision import choose_precision

    adapter, step = _load_best(training_run, model_export, model)
    return assess(
        adapter,
        token_splits,
        tokenizer,
        step=step,
        precision=choose_precision(training.device, training.precision),
        batch_size=training.rows_per_evaluation_batch,
        samples=training.samples,
        seed=training.seed,
    )


def analyze_errors(
    training_run: TrainingRun,
    model_export: ModelSource,
    token_splits: TokenSplits,
    tokenizer: Tokenizer,
    model: ModelOptions,
    training: TrainingOptions,
) -> tuple[dict[str, Any], Figure, Figure, Figure]:
    """Analyze the errors of the best checkpoint on the validation split; return a report and its figures."""
    from transformer_foundry.core.system.precision import choose_precision

    adapter, _ = _load_best(training_run, model_export, model)
    report = core_error_analysis.analyze_errors(
        adapter,
        token_splits,
        tokenizer,
        batch_size=training.rows_per_evaluation_batch,
        precision=choose_precision(training.device, training.precision),
    )
    return (
        report,
        core_error_analysis.confusion_figure(report),
        core_error_analysis.calibration_figure(report),
        core_error_analysis.segment_figure(report),
    )


def draw_curves(training_run: TrainingRun, token_splits: TokenSplits) -> tuple[Figure, Figure, Figure]:
    """Draw the curves of loss, learning rate and gradient norm."""
    losses = {name: value for name, value in token_splits.baselines.items() if name.endswith("_loss")}
    history = training_run.history
    return (
        training_curves.loss_figure(history, losses),
        training_curves.learning_rate_figure(history),
        training_curves.gradient_norm_figure(history),
    )


def _load_best(training_run: TrainingRun, model_export: ModelSource, model: ModelOptions) -> tuple[Adapter, int]:
    state = training_run.require_best()
    adapter = models.load_model(model_export, kind=model.kind, task=model.task, seed=state.options["seed"])
    core_training.restore_model(adapter.model, state.evaluated_model)
    return adapter, state.step
