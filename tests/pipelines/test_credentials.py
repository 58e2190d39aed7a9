"""Nodes read no environment: keys and paths come from the catalog, the parameters and the clients of services."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

NODES = sorted((Path(__file__).parents[2] / "src" / "transformer_foundry" / "pipelines").rglob("*.py"))


@pytest.mark.parametrize("path", NODES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_node_reads_no_variable_of_the_environment(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    read = [
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert read == []
