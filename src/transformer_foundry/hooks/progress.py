"""Show the progress line: step, loss, speed and time left of a training, and the trials of a search."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from transformer_foundry.console.colab import is_colab
from transformer_foundry.console.status_line import LINE, StatusLine, in_notebook
from transformer_foundry.core.base.text import format_duration, short_sample
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext, function_of

if TYPE_CHECKING:
    from kedro.pipeline.node import Node

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.studies.tuning import TrialResult
    from transformer_foundry.core.training.events import Checkpoint, Progress, Started
    from transformer_foundry.datasets.training_run import RunSession
    from transformer_foundry.hooks.live_figure import LiveFigure

__all__ = ["STAGES", "ProgressCallback"]

_log = logging.getLogger(__name__)

TERMINAL_REFRESH_S = 0.5
"""Between two refreshes of a line that is rewritten in place; Colab's tabs freeze when there are many."""

PLAIN_REFRESH_S = 5.0
"""Between two plain lines of a log or notebook; evaluations are always shown."""

FIGURE_SHARE = 50
"""Between two drawings of a notebook's figure this many times the time that the last one took."""

STAGES = {
    "check_export": "Checks of the model",
    "read_data": "Reading the data",
    "fit_tokenizer": "Tokenizer",
    "prepare_tokens": "Tokens",
    "profile_data": "Profile of the data",
    "train_model": "Loading the model",
    "evaluate_model": "Evaluation",
    "analyze_errors": "Errors of the model",
    "search_parameters": "Searching for better settings",
    "confirm_best": "Comparing what was found with the default",
    "compare_models": "Comparing models",
    "make_package": "Package, with every format compared with the model",
    "publish_package": "Publishing",
}
"""Function of a node -> what is shown when it starts; nodes that take no time are left out.

One that may use the result of an earlier command again is named by its subject: only the node knows what it will do.
"""


@dataclass
class _State:
    """What is shown of a training, from one ``Started`` to the next.

    Attributes:
        started_at: Seconds of the clock.
        timed_from: Step and time from which the time left is estimated.
        shown_at: When the last line was shown.
        saved_step: Newest step that is durable.
        has_started: Whether training has started in this command.
        unplanned_steps: Total steps before those of a run with ``max_hours`` are planned.
        metrics: Newest value of each metric.
        drawing_s: How long the last drawing of the figure took.
    """

    started_at: float
    timed_from: tuple[int, float] | None = None
    shown_at: float = -math.inf
    saved_step: int | None = None
    has_started: bool = False
    unplanned_steps: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    drawing_s: float = 0.0


class ProgressCallback(Callback):
    """Prints a progress line from the events of training and the trials of a search.

    Args:
        stream: Where to print; None is the current standard output.
        clock: Monotonic seconds.
    """

    name = "The progress line"
    nesting = 60
    _context: RunContext

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._line, self._clock = LINE if stream is None else StatusLine(stream), clock
        self._figure: LiveFigure | None = None
        self._baselines: Mapping[str, float] = {}
        self._has_errors = True
        self._state = _State(self._clock())

    def on_run_start(self, context: RunContext) -> None:
        """Forget earlier runs."""
        self._context, self._figure, self._baselines, self._has_errors = context, None, {}, True
        self._state = _State(self._clock())

    def on_node_start(self, node: Node) -> None:
        """Print what starts."""
        function = function_of(node)
        # These nodes always run; without a repository, or for a language model, they have nothing to do.
        is_idle = (function == "publish_package" and not self._context.options(DeploymentOptions).hub_repo) or (
            function == "analyze_errors" and not self._has_errors
        )
        if function in STAGES and not is_idle:
            self._line.replace(f"{self._prefix}{STAGES[function]} ...")

    def on_token_splits(self, splits: TokenSplits, *, is_new: bool) -> None:
        """Keep the baselines of the tokens for the figure, and whether errors are analyzed."""
        from transformer_foundry.core.evaluation.error_analysis import is_analyzed

        self._baselines, self._has_errors = splits.baselines, is_analyzed(splits)

    def on_started(self, started: Started) -> None:
        """Print whether the run starts, resumes or returns to a checkpoint."""
        before, self._state = self._state, _State(self._clock(), has_started=True)
        if _training_of(started).get("max_hours") and not started.step:
            self._state.unplanned_steps = started.total_steps
        self._start_figure(started)
        if before.has_started:
            # Training has logged the reason; what is on the disk stays there.
            self._state.saved_step = before.saved_step
            self._line.print(f"{self._prefix}Training returns to step {started.step} of {started.total_steps}.")
            return
        session = None if self._context.run is None else self._context.run.session
        for line in (_starting_line(started, session), *started.notes, *_device_notes(started)):
            self._line.print(f"{self._prefix}{line}")
        for sample in started.samples[:1]:
            self._line.print(f"{self._prefix}Before training: {short_sample(sample)}")

    def on_progress(self, progress: Progress) -> None:
        """Show the step, unless the last line is too recent."""
        self._state.metrics |= progress.metrics
        if self._figure is not None:
            self._figure.add(progress.step, progress.metrics, progress.samples)
        is_milestone = "eval/loss" in progress.metrics or progress.step >= progress.total_steps
        self._refresh(self._training_line(progress.step, progress.total_steps), is_milestone)

    def on_checkpoint(self, folder: Path, checkpoint: Checkpoint) -> None:
        """Keep the last saved step."""
        self._state.saved_step = checkpoint.step

    def on_trial(self, trial: TrialResult) -> None:
        """Print a trial of a search."""
        self._line.print(self._prefix + _trial_line(trial, self._context.options(TuningOptions)))

    def on_run_end(self) -> None:
        """Remove the line that was rewritten in place."""
        self._line.clear()

    def on_run_error(self, error: Exception) -> None:
        """End a line that was rewritten in place, so that the error starts on its own line."""
        self._line.end()

    def on_interrupt(self) -> None:
        """Print the step that is saved: the same command continues from it."""
        self._line.end()
        if self._state.saved_step is not None:
            self._line.print(f"{self._prefix}Saved: step {self._state.saved_step}.")

    @property
    def _prefix(self) -> str:
        """What lines begin with where a command trains several models."""
        return f"{self._context.label}: " if self._context.label else ""

    def _training_line(self, step: int, total_steps: int) -> str:
        state = self._state
        parts = [f"step {step}/{total_steps}" if total_steps != state.unplanned_steps else f"step {step}"]
        for name, label in (("train/loss", "loss"), ("eval/loss", "eval loss")):
            if name in state.metrics:
                parts.append(f"{label} {state.metrics[name]:.3f}")
        if tokens_per_s := state.metrics.get("train/tokens_per_second"):
            parts.append(f"{_count(tokens_per_s)} tokens/s")
        if state.timed_from is None:
            # The first step includes the start of a GPU and of its kernels: 60 times a later step on an H200.
            state.timed_from = (step, self._clock())
        first_step, first_time = state.timed_from
        if step >= total_steps:
            parts.append(format_duration(self._clock() - state.started_at))
        elif step > first_step:
            per_step = (self._clock() - first_time) / (step - first_step)
            parts.append(f"ETA {format_duration(per_step * (total_steps - step))}")
        if state.saved_step is not None and step < total_steps:  # the last one is saved after this line
            parts.append(f"checkpoint {state.saved_step}")
        return self._prefix + " | ".join(parts)

    def _refresh(self, line: str, is_milestone: bool) -> None:
        """Show a line that later ones replace, unless the last one is too recent."""
        interval = TERMINAL_REFRESH_S if self._line.is_terminal else PLAIN_REFRESH_S
        now = self._clock()
        if now - self._state.shown_at < max(interval, FIGURE_SHARE * self._state.drawing_s) and not is_milestone:
            return
        self._state.shown_at = now
        if self._figure is not None:
            self._draw(self._figure, line)
        elif is_milestone:
            self._line.print(line)
        else:
            self._line.replace(line)

    def _start_figure(self, started: Started) -> None:
        """Start the figure of a notebook with what earlier sessions have logged."""
        if not in_notebook() or started.step >= started.total_steps:
            return
        if self._figure is None:
            from transformer_foundry.hooks.live_figure import LiveFigure

            self._figure = LiveFigure(self._baselines)
        self._figure.start([] if self._context.run is None else self._context.run.load().history)

    def _draw(self, figure: LiveFigure, line: str) -> None:
        began = self._clock()
        try:
            figure.show(line)
        except Exception as err:  # lines take the place of the figure
            _log.warning("The live figure is off: %s: %s.", type(err).__name__, err)
            self._figure = None
            self._line.print(line)
        self._state.drawing_s = self._clock() - began


def _starting_line(started: Started, session: RunSession | None) -> str:
    """Return whether the run starts or resumes, from which step, in which session, and what was lost."""
    if not started.resumed:
        # The steps of a run with max_hours are planned after the first of them have been timed.
        hours = _training_of(started).get("max_hours")
        return "Training starts at step 0 of " + (f"{hours:g} h." if hours else f"{started.total_steps}.")
    line = f"Training resumes at step {started.step} of {started.total_steps}"
    if session is None:
        return f"{line}."
    lost = session.lost_steps
    done_again = (
        f"{lost} step{'s' if lost > 1 else ''} after the last checkpoint {'are' if lost > 1 else 'is'} repeated"
    )
    return f"{line} (session {session.number}; {done_again if lost else 'nothing was lost'})."


def _trial_line(trial: TrialResult, tuning: TuningOptions) -> str:
    # The budget of pause_resume is the steps of n_trials trainings; numbers of its trials exceed n_trials.
    n_trials = None if tuning.sampler == "pause_resume" else tuning.n_trials
    parts = [
        f"trial {trial.number}" + (f" (of {n_trials})" if n_trials else ""),
        f"{trial.state}{' (new best)' if trial.is_best else ''}",
        "no loss" if trial.loss is None else f"loss {trial.loss:.3f}",
        "" if trial.best_loss is None or trial.is_best else f"best {trial.best_loss:.3f}",
        ", ".join(f"{name} {_value(value)}" for name, value in trial.parameters.items()),
        format_duration(trial.seconds),
        trial.error or "",
    ]
    return " | ".join(part for part in parts if part)


def _training_of(started: Started) -> Mapping[str, Any]:
    training: Mapping[str, Any] = started.manifest.get("parameters", {}).get("training", {})
    return training


def _device_notes(started: Started) -> list[str]:
    environment = started.manifest.get("environment", {})
    wants_gpu = _training_of(started).get("device") == "auto"
    if environment.get("gpu") or not environment or not wants_gpu or started.step >= started.total_steps:
        return []
    remedy = (
        "Choose Runtime > Change runtime type > T4 GPU and run again: training resumes from its last checkpoint."
        if is_colab()
        else "If this machine has one, 'kedro doctor' shows what is missing."
    )
    return [f"NO GPU: training runs on the CPU. {remedy}"]


def _count(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
