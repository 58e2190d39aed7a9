"""The curves show what the history holds."""

from __future__ import annotations

from transformer_foundry.core.reports.training_curves import gradient_norm_figure, learning_rate_figure, loss_figure

HISTORY = [
    {"step": 1, "train/loss": 6.0, "train/learning_rate": 0.1, "train/grad_norm": 2.0},
    {"step": 2, "train/loss": 5.0, "eval/loss": 5.5, "train/learning_rate": 0.2, "train/grad_norm": 1.0},
]


def test_the_loss_figure_shows_both_curves_and_the_baselines() -> None:
    figure = loss_figure(HISTORY, {"bigram": 2.5})
    training, validation = figure.data
    assert (list(training.x), list(training.y)) == ([1, 2], [6.0, 5.0])
    assert (list(validation.x), list(validation.y)) == ([2], [5.5])
    assert figure.layout.annotations[0].text == "bigram 2.50"


def test_the_other_figures_show_their_metric() -> None:
    assert list(learning_rate_figure(HISTORY).data[0].y) == [0.1, 0.2]
    assert list(gradient_norm_figure(HISTORY).data[0].y) == [2.0, 1.0]


def test_an_empty_history_gives_an_empty_figure() -> None:
    assert list(loss_figure([]).data[0].x) == []
