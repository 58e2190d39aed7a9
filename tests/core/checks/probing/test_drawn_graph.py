from __future__ import annotations

from transformer_foundry.core.checks.probing.drawn_graph import Graph, read_graph


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
