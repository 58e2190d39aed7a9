"""The signatures of the nodes: Kedro validates parameters by their hints, and import stays light."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing

import kedro.ipython
import pytest
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from transformer_foundry.pipeline_registry import register_pipelines

NODES = sorted(
    sum(register_pipelines().values(), start=register_pipelines()["tuning"]).nodes, key=lambda item: item.name
)


@pytest.mark.parametrize("node", NODES, ids=[node.name for node in NODES])
def test_every_parameter_of_a_node_has_a_dataclass_hint_at_run_time(node: Node) -> None:
    # Kedro skips the validation of a node with a hint that does not resolve.
    hints = typing.get_type_hints(node.func)
    arguments = dict(zip(inspect.signature(node.func).parameters, node.inputs, strict=True))
    parsed = [name for name, source in arguments.items() if source.startswith("params:")]
    assert [name for name in parsed if not dataclasses.is_dataclass(hints[name])] == []


@pytest.mark.parametrize("node", NODES, ids=[node.name for node in NODES])
def test_no_argument_of_a_node_is_untyped(node: Node) -> None:
    annotations = inspect.get_annotations(node.func)
    assert [name for name, hint in annotations.items() if hint in ("Any", typing.Any)] == []


@pytest.mark.filterwarnings("ignore:This is an experimental feature")
@pytest.mark.parametrize("node", NODES, ids=[node.name for node in NODES])
def test_load_node_brings_a_node_with_the_helpers_of_its_module(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(kedro.ipython.logger, "warning", lambda text, *values: warned.append(text % values))
    *_, imports, definition, _ = kedro.ipython._load_node(node.name, {"all": Pipeline([node])})
    assert warned == []
    cells: dict[str, object] = {}
    exec(f"{imports}\n{definition}", cells)
    read = set(node.func.__code__.co_names) & set(node.func.__globals__)
    assert sorted(read - cells.keys()) == []


def test_the_pipelines_load_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from transformer_foundry.pipeline_registry import register_pipelines\n"
        "register_pipelines()\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'optuna', 'plotly', 'matplotlib'} & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
