from __future__ import annotations

from tests.core.checks.models import GRAPH_CONFIG, write_export
from transformer_foundry.core.checks import Measurements, draw_graph, draw_report, run_checks
from transformer_foundry.core.checks.probing.drawn_graph import Graph, read_graph


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


def test_edges_may_be_pairs_or_mappings():
    nodes = [{"id": "a_0"}, {"id": "b_0"}]
    expected = (("a_0", "b_0"),)
    for edge in (["a_0", "b_0"], {"source": "a_0", "target": "b_0"}, {"from": "a_0", "to": "b_0"}):
        assert read_graph({"nodes": nodes, "edges": [edge]}).edges == expected


def test_names_belong_to_the_longest_block_id_they_start_with():
    graph = read_graph({"nodes": [{"id": "mhsa_1"}, {"id": "mhsa_1_b"}, {"id": "mhsa_10"}]})
    names = ("mhsa_1", "mhsa_1_output", "mhsa_1_b_output", "mhsa_10.out_proj", "mhsa_2")
    found = [graph.node_of(name) for name in names]
    assert [node.id if node else None for node in found] == ["mhsa_1", "mhsa_1", "mhsa_1_b", "mhsa_10", None]
    assert not Graph()
