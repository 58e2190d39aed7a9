"""Draw the figures of a search with plotly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transformer_foundry.core.base.plots import BLUE, GREEN, GREY, LIGHT_BLUE, ORANGE, RED, new_figure
from transformer_foundry.core.studies.tuning.results.summary import shown_trials
from transformer_foundry.core.studies.tuning.results.trial_result import TrialResult, result_of
from transformer_foundry.core.studies.tuning.space import Dimension, SearchSpace
from transformer_foundry.core.studies.tuning.storage.trial_attributes import SESSIONS_ATTR, steps_trained
from transformer_foundry.core.studies.tuning.strategies.candidates import encode

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

__all__ = ["history_figure", "importance_figure", "parallel_figure", "timeline_figure"]

_COLORS = {"complete": BLUE, "paused": LIGHT_BLUE, "pruned": ORANGE, "failed": RED, "running": GREEN}

_MIN_FOR_IMPORTANCE = 4


def history_figure(study: Study) -> Figure:
    """Draw the loss of each trial in the order of their start, with the best complete loss so far as a line."""
    results = [result for result in _results(study) if result.loss is not None]
    figure = new_figure("Search history", "trial", "validation loss (nats per target)")
    for state, color in _COLORS.items():
        chosen = [result for result in results if result.state == state]
        figure.add_scatter(
            x=[result.number for result in chosen],
            y=[result.loss for result in chosen],
            text=[_described(result) for result in chosen],
            mode="markers",
            name=state,
            marker={"color": color, "size": 9},
            visible=True if chosen else "legendonly",
        )
    complete = [result for result in results if result.state == "complete"]
    losses = [result.loss for result in complete if result.loss is not None]
    figure.add_scatter(
        x=[result.number for result in complete],
        y=[min(losses[: count + 1]) for count in range(len(losses))],
        mode="lines",
        name="best so far",
        line={"color": GREY, "shape": "hv"},
    )
    return figure


def importance_figure(study: Study) -> Figure:
    """Draw the share of the differences between complete trials that each parameter explains (Optuna's PED-ANOVA)."""
    figure = new_figure("Importance of the parameters", "share of the differences explained", "")
    shares = _importances(study)
    if not shares:
        figure.add_annotation(
            text=f"{_MIN_FOR_IMPORTANCE} complete trials with different losses are needed.", showarrow=False
        )
        return figure
    ranked = sorted(shares.items(), key=lambda item: item[1])
    figure.add_bar(
        x=[share for _, share in ranked],
        y=[name for name, _ in ranked],
        orientation="h",
        marker={"color": _COLORS["complete"]},
        showlegend=False,
    )
    return figure


def parallel_figure(study: Study, space: SearchSpace) -> Figure:
    """Draw each trial as a line through its parameters, colored by its loss."""
    import plotly.graph_objects as go

    results = [result for result in _results(study) if result.loss is not None]
    points = encode(space, [result.parameters for result in results])
    dimensions = [_axis(dimension, results, points[:, column]) for column, dimension in enumerate(space.dimensions)]
    losses = [result.loss for result in results]
    lines = {"color": losses, "colorscale": "Viridis_r", "showscale": True, "colorbar": {"title": "loss"}}
    figure = go.Figure(go.Parcoords(dimensions=[*dimensions, {"label": "loss", "values": losses}], line=lines))
    figure.update_layout(title="Parameters and loss", template="plotly_white")
    return figure


def _axis(dimension: Dimension, results: Sequence[TrialResult], positions: NDArray[np.float64]) -> dict[str, Any]:
    """Return the axis of a dimension; trials that do not have it are drawn below."""
    if dimension.n_levels is None:
        ticks = [(place, dimension.from_unit(place)) for place in (0.0, 0.5, 1.0)]
    else:
        tried = {result.parameters[dimension.name] for result in results if dimension.name in result.parameters}
        ticks = [(dimension.to_unit(value), value) for value in sorted(tried, key=str)]
    return {
        "label": dimension.name,
        "values": np.nan_to_num(positions, nan=-0.1).tolist(),
        "range": [-0.1, 1.0],
        "tickvals": [place for place, _ in ticks],
        "ticktext": [_short(value) for _, value in ticks],
    }


def timeline_figure(study: Study, max_steps: int) -> Figure:
    """Draw which trial was trained when, on an axis of optimizer steps: pauses, resumptions, early ends.

    The title says how many steps the search saved compared with training each of its configurations in full.
    """
    trials = shown_trials(study)
    sessions = sorted(
        ((session["ended"], trial, session) for trial in trials for session in trial.user_attrs.get(SESSIONS_ATTR, [])),
        key=lambda entry: (entry[0], entry[1].number),
    )
    figure = new_figure(_savings(trials, max_steps), "optimizer steps of the search", "trial")
    starts: dict[str, list[tuple[int, int, int, str]]] = {state: [] for state in _COLORS}
    spent = 0
    for _, trial, session in sessions:
        length = session["to"] - session["from"]
        is_last = session is trial.user_attrs[SESSIONS_ATTR][-1]
        state: str = result_of(trial, ()).state if is_last else "paused"
        starts[state].append((trial.number, spent, length, f"steps {session['from']} to {session['to']}"))
        spent += length
    for name, bars in starts.items():
        figure.add_bar(
            y=[number for number, *_ in bars],
            base=[base for _, base, *_ in bars],
            x=[length for *_, length, _ in bars],
            text=[text for *_, text in bars],
            textposition="none",
            orientation="h",
            name=name,
            marker={"color": _COLORS[name]},
            visible=True if bars else "legendonly",
        )
    figure.update_layout(barmode="overlay", yaxis={"autorange": "reversed"})
    return figure


def _savings(trials: Sequence[FrozenTrial], max_steps: int) -> str:
    spent = sum(steps_trained(trial) for trial in trials)
    full = len(trials) * max_steps
    return f"{spent} steps for {len(trials)} configurations: {max(0, full - spent)} fewer than {full} unpruned"


def _importances(study: Study) -> Mapping[str, float]:
    import optuna

    # A conditional parameter is in some trials only; those that all complete trials have can be compared.
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < _MIN_FOR_IMPORTANCE or len({trial.value for trial in complete}) == 1:
        return {}
    common = [
        name
        for name in complete[0].params
        if all(name in trial.params for trial in complete) and len({trial.params[name] for trial in complete}) > 1
    ]
    if not common:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=common)
    return {name: share for name, share in found.items() if math.isfinite(share)}


def _results(study: Study) -> list[TrialResult]:
    return [result_of(trial, ()) for trial in shown_trials(study)]


def _described(result: TrialResult) -> str:
    return "<br>".join(f"{name}: {_short(value)}" for name, value in result.parameters.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
