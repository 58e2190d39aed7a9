from __future__ import annotations

from tests.core.checks.models import GRAPH_CONFIG, write_export
from transformer_foundry.core.checks import Measurements, draw_graph, draw_report, run_checks
from transformer_foundry.core.checks.probing.drawn_graph import read_graph
from transformer_foundry.core.files.provenance import digest_of


def test_the_figure_has_four_panels(tmp_path):
    report = run_checks(write_export(tmp_path / "export", "gpt"))
    figure = draw_report(report)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 4
    assert "not measured" not in [text.get_text() for axes in figure.axes for text in axes.texts]


def test_leaks_are_marked_in_the_map(tmp_path):
    report = run_checks(write_export(tmp_path / "export", "gpt", {"triu(1)": "triu(2)"}))
    panel = draw_report(report).axes[0]
    marked = panel.collections[0].get_offsets()
    assert len(marked) > 0
    assert all(column > row for column, row in marked)


def test_a_figure_is_drawn_when_nothing_was_measured():
    assert len(draw_report(Measurements()).axes) == 4


def test_the_graph_marks_the_block_and_draws_every_arrow():
    graph = read_graph(GRAPH_CONFIG)
    axes = draw_graph(graph, ["mhsa_1"])
    labels = [text.get_text() for text in axes.texts if text.get_text()]
    assert len(labels) == len(graph.nodes)
    assert [label for label in labels if "here" in label] == ["mhsa_1  ◄ here"]
    assert len([text for text in axes.texts if not text.get_text()]) == len(graph.edges)


def test_the_picture_names_the_report_that_it_belongs_to(tmp_path):
    draw_report(Measurements(), {"model": "m1"}).savefig(tmp_path / "a.png")
    assert digest_of({"model": "m1"}).encode() in (tmp_path / "a.png").read_bytes()
