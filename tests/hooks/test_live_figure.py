"""The figure below the training cell of a notebook."""

import io
import re

import pytest

from tests.hooks.runs import Run
from transformer_foundry.hooks import ProgressCallback, live_figure, progress
from transformer_foundry.hooks.live_figure import LiveFigure


class Display:
    """Keeps what the cell shows: one place, replaced each time."""

    def __init__(self):
        self.shown = []

    def __call__(self, page, display_id):
        assert display_id
        assert not self.shown, "a second output was opened"
        self.update(page)
        return self

    def update(self, page):
        self.shown.append(page.data)


@pytest.fixture
def cell(monkeypatch):
    import IPython.display

    display = Display()
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    return display


def points(page):
    return [line.count(",") for line in re.findall(r'points="([^"]*)"', page)]


def test_loss_is_drawn_against_tokens_beside_the_baselines():
    figure = LiveFigure({"bigram_loss": 3.5, "majority_accuracy": 0.1})
    figure.start([{"step": 1, "train/loss": 6.0, "train/tokens_seen": 64}, {"step": 1, "eval/loss": 5.0}])
    figure.add(2, {"train/loss": 5.0, "train/tokens_seen": 128, "eval/loss": 4.5}, ())
    page = figure.render("step 2/9 | ETA 7s")
    assert points(page) == [2, 2]
    assert "tokens seen" in page
    assert "bigram model 3.5" in page
    assert "majority" not in page


def test_samples_are_text_and_the_newest_stay():
    figure = LiveFigure({})
    figure.add(1, {}, ("<script>",))
    figure.add(2, {}, ())
    page = figure.render("step 2/9")
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_a_notebook_gets_one_output_that_is_replaced_and_no_progress_lines(tmp_path, cell):
    stream = io.StringIO()
    run = Run(tmp_path / "data", ProgressCallback(stream, clock=lambda: 0.0))
    run.begin()
    run.start()
    run.progress(10, eval_loss=3.5)
    run.progress(100)
    assert [re.search(r"<p>(step \d+)", page)[1] for page in cell.shown] == ["step 10", "step 100"]
    assert points(cell.shown[-1]) == [2]
    assert stream.getvalue() == "Training starts at step 0 of 100.\n"


def test_a_resumed_run_shows_what_earlier_sessions_logged_and_not_what_was_lost(tmp_path, cell):
    run = Run(tmp_path / "data", ProgressCallback(io.StringIO(), clock=lambda: 0.0))
    run.begin()
    run.start()
    run.progress(10)
    run.checkpoint(10)
    run.progress(20)
    run.start(10)
    run.progress(30, eval_loss=3.0)
    assert points(cell.shown[-1])[0] == 2


def test_a_figure_that_cannot_be_drawn_leaves_lines_and_training_goes_on(tmp_path, cell, monkeypatch, caplog):
    monkeypatch.setattr(live_figure, "loss_chart", lambda *_, **__: 1 / 0)
    stream = io.StringIO()
    run = Run(tmp_path / "data", ProgressCallback(stream, clock=lambda: 0.0))
    run.begin()
    run.start()
    run.progress(10, eval_loss=3.5)
    assert "The live figure is off: ZeroDivisionError" in caplog.text
    assert stream.getvalue().splitlines()[-1].startswith("step 10/100")
