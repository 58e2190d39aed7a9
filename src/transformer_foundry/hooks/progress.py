"""The progress line: how far training or a search is, how it goes, and how long it will take."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline.node import Node

from transformer_foundry.console.colab import is_colab
from transformer_foundry.console.status_line import LINE, LiveLine, in_notebook
from transformer_foundry.core.base.text import format_duration
from transformer_foundry.core.system.process import is_main_process

if TYPE_CHECKING:
    from transformer_foundry.hooks.live_figure import LiveFigure

__all__ = ["STAGES", "ProgressHooks"]

_log = logging.getLogger(__name__)

TERMINAL_REFRESH_S = 0.5
"""Refreshes of a line that is rewritten in place; Colab's tabs freeze when there are many."""

PLAIN_REFRESH_S = 5.0
"""Between two plain lines of a log or notebook; evaluations are always shown."""

FIGURE_SHARE = 50
"""A drawing in a notebook is followed by at least so many times the time that it took."""

STAGES = {
    "check_model": "Checking the model",
    "read_data": "Reading the data",
    "fit_tokenizer": "Making the tokenizer",
    "prepare_tokens": "Writing the tokens",
    "profile_data": "Looking at the data",
    "train_model": "Loading the model",
    "evaluate_model": "Evaluating the model",
    "analyse_errors": "Looking at its errors",
    "search_parameters": "Searching for better settings",
    "confirm_best": "Comparing what was found with the default",
    "compare_models": "Comparing models",
    "make_package": "Exporting, and comparing every format with the model",
    "publish_package": "Publishing",
}
"""Node -> what it does, said when it begins; what takes no time is left out."""


class ProgressHooks:
    """Prints a progress line from the records of training and of a search.

    Args:
        stream: Where to print; None is the standard output of the moment.
        clock: Seconds that only grow.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._line, self._clock = LINE if stream is None else LiveLine(stream), clock
        self._parameters: Mapping[str, Any] = {}
        self._run: Any = None
        self._figure: LiveFigure | None = None
        self._baselines: Mapping[str, Any] = {}
        self._reset()

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters and forget earlier runs."""
        self._figure = None
        self._parameters = context.config_loader["parameters"]
        self._reset()

    @hook_impl
    def before_pipeline_run(self, catalog: CatalogProtocol) -> None:
        """Ask the run to say when a checkpoint is durable."""
        if "training_run" in catalog:
            self._run = catalog.get("training_run")
            self._run.subscribe(self._note_saved)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Keep the baselines of the tokens for the figure."""
        if dataset_name == "token_splits":
            self._baselines = data.baselines

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Say what begins."""
        # The node runs in every deployment; without a repository it has nothing to do.
        is_idle = node.name == "publish_package" and not (self._parameters.get("deployment") or {}).get("hub_repo")
        if node.name in STAGES and is_main_process() and not is_idle:
            self._line.replace(f"{STAGES[node.name]} ...")

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Show a record of training, or a trial of a search."""
        if not is_main_process():
            return
        if dataset_name == "training_run":
            self._show_training(data)
        elif dataset_name == "study":
            self._show_trial(data)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Take the line away that was rewritten in place."""
        self._line.clear()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """End a line that was rewritten in place, so that the error has one of its own."""
        self._line.end()

    def _reset(self) -> None:
        self._began = self._clock()
        self._paced_from: tuple[int, float] | None = None
        self._shown_at = -math.inf
        self._saved_step: int | None = None
        self._has_started = False
        self._unplanned: int | None = None
        self._metrics: dict[str, float] = {}
        self._drawing_s = 0.0

    def _show_training(self, record: Any) -> None:
        from transformer_foundry.core.training.events import Progress, Started

        if isinstance(record, Started):
            goes_back, saved_step = self._has_started, self._saved_step
            self._reset()
            self._has_started = True
            hours = _training_of(record).get("max_hours")
            self._unplanned = record.total_steps if hours and not record.step else None
            self._start_figure(record)
            if goes_back:
                # Why, training has logged; what is on the disk stays there.
                self._saved_step = saved_step
                self._line.print(f"GOES BACK to step {record.step} of {record.total_steps}.")
                return
            session = {} if self._run is None else self._run.session
            for line in (_starting_line(record, session), *record.notes, *_device_notes(record)):
                self._line.print(line)
        elif isinstance(record, Progress):
            self._metrics |= record.metrics
            if self._figure is not None:
                self._figure.add(record.step, record.metrics, record.samples)
            is_milestone = "eval/loss" in record.metrics or record.step >= record.total_steps
            self._refresh(self._training_line(record.step, record.total_steps), is_milestone)

    def _note_saved(self, _folder: Any, checkpoint: Any) -> None:
        self._saved_step = checkpoint.step

    def _training_line(self, step: int, total_steps: int) -> str:
        is_planned = total_steps != self._unplanned
        parts = [f"step {step}/{total_steps}" if is_planned else f"step {step}"]
        for name, label in (("train/loss", "loss"), ("eval/loss", "eval loss")):
            if name in self._metrics:
                parts.append(f"{label} {self._metrics[name]:.3f}")
        if self._metrics.get("train/tokens_per_second"):
            parts.append(f"{_count(self._metrics['train/tokens_per_second'])} tokens/s")
        if self._paced_from is None:
            # Of the first step much is the start of a GPU and of its kernels: sixty times a later one on an H200.
            self._paced_from = (step, self._clock())
        first_step, first_time = self._paced_from
        if step >= total_steps:
            parts.append(format_duration(self._clock() - self._began))
        elif step > first_step:
            per_step = (self._clock() - first_time) / (step - first_step)
            parts.append(f"ETA {format_duration(per_step * (total_steps - step))}")
        if self._saved_step is not None:
            parts.append(f"saved at {self._saved_step}")
        return " | ".join(parts)

    def _show_trial(self, record: Any) -> None:
        tuning = self._parameters.get("tuning") or {}
        # For pause_resume the budget is steps of so many trainings, and numbers of trials go beyond it.
        n_trials = tuning.get("n_trials") if tuning.get("sampler", "pause_resume") != "pause_resume" else None
        loss = "no loss" if record.loss is None else f"loss {record.loss:.3f}"
        values = ", ".join(f"{name} {_value(value)}" for name, value in record.parameters.items())
        parts = [
            f"trial {record.number}" + (f" (of {n_trials})" if n_trials else ""),
            f"{record.state}{' (new best)' if record.is_best else ''}",
            loss,
            "" if record.best_loss is None or record.is_best else f"best {record.best_loss:.3f}",
            values,
            format_duration(record.seconds),
            record.error or "",
        ]
        self._line.print(" | ".join(part for part in parts if part))

    def _refresh(self, line: str, is_milestone: bool) -> None:
        """Show a line that later ones replace, unless the last one is too fresh."""
        interval = TERMINAL_REFRESH_S if self._line.is_terminal else PLAIN_REFRESH_S
        now = self._clock()
        if now - self._shown_at < max(interval, FIGURE_SHARE * self._drawing_s) and not is_milestone:
            return
        self._shown_at = now
        if self._figure is not None:
            self._draw(line)
        elif is_milestone:
            self._line.print(line)
        else:
            self._line.replace(line)

    def _start_figure(self, started: Any) -> None:
        """Begin the figure of a notebook with what earlier sessions have logged."""
        if not in_notebook() or started.step >= started.total_steps:
            return
        if self._figure is None:
            from transformer_foundry.hooks.live_figure import LiveFigure

            self._figure = LiveFigure(self._baselines)
        self._figure.start([] if self._run is None else self._run.load().history)

    def _draw(self, line: str) -> None:
        began = self._clock()
        try:
            assert self._figure is not None
            self._figure.show(line)
        except Exception as error:  # A figure must not end training.
            _log.warning("The live figure stops: %s: %s.", type(error).__name__, error)
            self._figure = None
            self._line.print(line)
        self._drawing_s = self._clock() - began


def _starting_line(started: Any, session: Mapping[str, Any]) -> str:
    """Say whether the run starts or continues, from which step, in which session, and what was lost."""
    if not started.resumed:
        # The steps of a run of hours are planned when the first of them have been timed.
        hours = _training_of(started).get("max_hours")
        return "STARTS at step 0 of " + (f"{hours:g} h." if hours else f"{started.total_steps}.")
    line = f"CONTINUES at step {started.step} of {started.total_steps}"
    if not session:
        return f"{line}."
    lost = session["lost_steps"]
    done_again = (
        f"{lost} step{'s' if lost > 1 else ''} after the last checkpoint {'are' if lost > 1 else 'is'} done again"
    )
    return f"{line} (session {session['number']}; {done_again if lost else 'nothing was lost'})."


def _training_of(started: Any) -> Mapping[str, Any]:
    training: Mapping[str, Any] = started.manifest.get("parameters", {}).get("training", {})
    return training


def _device_notes(started: Any) -> list[str]:
    environment = started.manifest.get("environment", {})
    wants_gpu = _training_of(started).get("device") == "auto"
    if environment.get("gpu") or not environment or not wants_gpu or started.step >= started.total_steps:
        return []
    cure = (
        "Choose Runtime > Change runtime type > T4 GPU and run again: training goes on from its last checkpoint."
        if is_colab()
        else "If this machine has one, 'kedro doctor' says what is missing."
    )
    return [f"NO GPU: training runs on the CPU. {cure}"]


def _count(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
