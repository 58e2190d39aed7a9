"""Nodes of the training pipeline."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from transformer_foundry.core import models
from transformer_foundry.core import training as core_training
from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.checks.options import ValidationOptions
from transformer_foundry.core.checks.report.gate import require_sound
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.evaluation import error_analysis as core_error_analysis
from transformer_foundry.core.evaluation.assess import assess, evaluation_origin
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.provenance import is_made_from
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.reports import training_curves
from transformer_foundry.core.studies.tuning.results.best_parameters import use_best_parameters
from transformer_foundry.core.training.checkpointing.training_run import TrainingRun
from transformer_foundry.core.training.events import Event, Started
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK
from transformer_foundry.pipelines.reuse import EarlierResults, earlier_of, is_up_to_date, say_up_to_date
from transformer_foundry.pipelines.types import Adapter, Figure

if TYPE_CHECKING:
    from transformer_foundry.core.files.provenance import Origin
    from transformer_foundry.core.training.checkpointing.state import MemoryDecision

__all__ = ["analyze_errors", "draw_curves", "draw_errors", "evaluate_model", "train_model"]

_log = logging.getLogger(__name__)


def train_model(
    previous_run: TrainingRun,
    model_export: ModelSource,
    model_approval: dict[str, Any] | None,
    token_splits: TokenSplits,
    tokenizer: Tokenizer,
    best_parameters: dict[str, Any] | None,
    model: ModelOptions,
    data: DataOptions,
    training: TrainingOptions,
    validation: ValidationOptions,
) -> Iterator[Event]:
    """Train the model, from the newest checkpoint if there is one; yield the events of training."""
    model, data = as_options(ModelOptions, model, "model"), as_options(DataOptions, data, "data")
    training = as_options(TrainingOptions, training, "training")
    validation = as_options(ValidationOptions, validation, "validation")
    require_sound(model_approval, model_export.identity, validation.on_errors)
    options = use_best_parameters(training, best_parameters, model_export.identity, token_splits.fingerprint)
    with RANDOM_LOCK.hold():
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
        events = core_training.fit(
            adapter,
            token_splits,
            options,
            tokenizer=tokenizer,
            resume_from=state,
            identity=core_training.run_identity(model_export, token_splits, tokenizer),
            manifest={
                # What was trained: the entry of another project's catalog need not read model.source.
                "parameters": {"model": {**asdict(model), "source": model_export.source}, "data": asdict(data)},
                "seeds": {"data": data.seed},
                "model": described,
                **start,
            },
            rehearsal=True,
            is_evaluated=True,
        )
        started = next(events)
        if isinstance(started, Started) and started.is_finished:
            # A session in which nothing is trained is no session of the run: manifest and tracker stay as they are.
            end = f" of {started.total_steps}" if started.step <= started.total_steps else ""
            what = f"{previous_run.folder.name}, step {started.step}{end}"
            newest = previous_run.checkpoints[-1] / MANIFEST_FILE if previous_run.checkpoints else None
            say_up_to_date("training", what, newest)
            for note in started.notes:
                _log.info("%s", note)
            return
        yield started
        yield from events


def evaluate_model(
    training_run: TrainingRun,
    model_export: ModelSource,
    token_splits: TokenSplits,
    tokenizer: Tokenizer,
    model: ModelOptions,
    training: TrainingOptions,
    earlier_results: EarlierResults,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate the checkpoint with the lowest validation loss; return its metrics and samples."""
    from transformer_foundry.core.system.precision import choose_precision

    model, training = as_options(ModelOptions, model, "model"), as_options(TrainingOptions, training, "training")
    precision = choose_precision(training.device, training.precision)
    rows, seed = training.rows_per_evaluation_batch, training.seed
    best = training_run.best_origin()
    origin = evaluation_origin(best, precision=precision, batch_size=rows, samples=training.samples, seed=seed)
    evaluation, samples = earlier_of(earlier_results, 0, 1)
    if best and evaluation is not None and samples is not None:
        what = f"step {best['step']} is evaluated"
        if is_made_from(samples, origin) and is_up_to_date(evaluation, origin, "evaluation", what):
            return evaluation, samples
    with RANDOM_LOCK.hold():
        adapter, weights = _load_best(training_run, model_export, model)
        return assess(
            adapter,
            token_splits,
            tokenizer,
            step=weights.step,
            precision=precision,
            batch_size=rows,
            samples=training.samples,
            seed=seed,
            made_from=weights.made_from,
            savings=core_training.evaluation_savings(adapter, token_splits, precision, weights.memory).active,
        )


def analyze_errors(
    training_run: TrainingRun,
    model_export: ModelSource,
    token_splits: TokenSplits,
    tokenizer: Tokenizer,
    model: ModelOptions,
    training: TrainingOptions,
    earlier_results: EarlierResults,
) -> dict[str, Any]:
    """Analyze the errors of the best checkpoint on the validation split."""
    from transformer_foundry.core.system.precision import choose_precision

    model, training = as_options(ModelOptions, model, "model"), as_options(TrainingOptions, training, "training")
    precision, rows = choose_precision(training.device, training.precision), training.rows_per_evaluation_batch
    best = training_run.best_origin()
    earlier: dict[str, Any] | None = earlier_of(earlier_results)[0]
    if best and is_made_from(earlier, evaluation_origin(best, precision=precision, batch_size=rows)):
        assert earlier is not None
        return earlier
    with RANDOM_LOCK.hold():
        adapter, weights = _load_best(training_run, model_export, model)
        return core_error_analysis.analyze_errors(
            adapter,
            token_splits,
            tokenizer,
            batch_size=rows,
            precision=precision,
            made_from=weights.made_from,
            savings=core_training.evaluation_savings(adapter, token_splits, precision, weights.memory).active,
        )


def draw_errors(error_analysis: dict[str, Any]) -> tuple[Figure, Figure, Figure]:
    """Draw the confusion matrix, the calibration and the loss by segment."""
    return (
        core_error_analysis.confusion_figure(error_analysis),
        core_error_analysis.calibration_figure(error_analysis),
        core_error_analysis.segment_figure(error_analysis),
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


class _Weights(NamedTuple):
    """What is kept of a state whose weights are in a model: without its tensors, of which the optimizer has twice as
    many."""

    step: int
    made_from: Origin
    memory: MemoryDecision | None


def _load_best(training_run: TrainingRun, model_export: ModelSource, model: ModelOptions) -> tuple[Adapter, _Weights]:
    state = training_run.require_best()
    adapter = models.load_model(model_export, kind=model.kind, task=model.task, seed=state.options["seed"])
    core_training.restore_model(adapter.model, state.evaluated_model)
    return adapter, _Weights(state.step, state.made_from, state.decisions.memory)
