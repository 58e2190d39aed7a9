"""Check that the computation follows the drawn graph: every block is computed, and gets what its arrows say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.drawn_graph import Node
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import JOINING, Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import first_tensor, graph_tensors

__all__ = ["check_drawn_order"]

# Types of blocks that need no module of their own.
WITHOUT_MODULE = (*JOINING, "input", "inputs", "output", "outputs", "dropout", "mask", "note", "comment", "group")
MOST = 0.7
NOISE = 0.5


def check_drawn_order(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that each drawn block is computed, and that its input depends on the blocks that its arrows come from."""
    if not subject.graph.edges:
        return
    named = [node for node in subject.graph.nodes if node.id in subject.source.main.text]
    if len(named) < MOST * len(subject.graph.nodes):
        return  # The names in the code are not those of the blocks.
    modules = _modules(subject)
    for node in subject.graph.nodes:
        finding = _not_computed(subject, node, modules.get(node.id, []))
        if finding is not None:
            yield finding
            return
    yield from _missing_arrow(subject, modules)


def _modules(subject: ModelUnderTest) -> dict[str, list[str]]:
    """Return block -> paths of the modules directly in the model that belong to it."""
    found: dict[str, list[str]] = {}
    for path, _ in subject.model.named_children():
        node = subject.graph.node_of(path)
        if node is not None:
            found.setdefault(node.id, []).append(path)
    return found


def _not_computed(subject: ModelUnderTest, node: Node, paths: list[str]) -> Finding | None:
    if node.type.lower() in WITHOUT_MODULE:
        return None
    if not paths and node.id not in subject.source.main.text:
        what = "is drawn, but model.py has neither a module nor a variable of that name"
        return _finding(node, what, Location(block=node), "export again, so that the block is in the code")
    used = {id(tensor) for tensor, _, _ in subject.trace.learned.values()}
    for path in paths:
        module = subject.locator.modules[path]
        inner = {path, *(f"{path}.{name}" for name, _ in module.named_modules() if name)}
        if inner & subject.trace.called or any(id(item) in used for item in module.parameters()):
            return None
    if not paths:
        return None
    what = f"is drawn, but its module {paths[0]} is never called"
    return _finding(node, what, subject.locator.module(paths[0]), "connect the block and export again, or delete it")


def _missing_arrow(subject: ModelUnderTest, modules: dict[str, list[str]]) -> Iterator[Finding]:
    """Find an arrow without influence: the input of its target stays the same when the result of its source moves."""
    with generic_weights(subject.model), _Listener(subject, modules) as listener:
        base = listener.run(None)
        computed = {node_id for node_id, inputs in base.items() if inputs}
        for source in subject.graph.nodes:
            targets = _next_computed(subject, source.id, computed)
            if source.id not in listener.speaking or not targets:
                continue
            moved = listener.run(source.id)
            for target in targets:
                if _are_equal(base[target], moved[target]):
                    node = next(item for item in subject.graph.nodes if item.id == target)
                    path = modules[target][0]
                    call = next((call for call in subject.trace.modules if call.module == path), None)
                    yield _finding(
                        node,
                        f"is drawn behind {source.id}, but its input does not depend on the result of {source.id}: the "
                        "code computes the blocks in another order or connects them in another way than drawn",
                        subject.locator.module(path, call.line if call is not None else None),
                        f"pass it what {source.id} computes, or correct the arrows and export again",
                    )
                    return


def _next_computed(subject: ModelUnderTest, source: str, computed: set[str]) -> list[str]:
    """Return the nearest blocks behind ``source`` that get a floating point input, through those that do not."""
    found: list[str] = []
    seen, waiting = {source}, [source]
    while waiting:
        at = waiting.pop()
        for start, end in subject.graph.edges:
            if start == at and end not in seen:
                seen.add(end)
                (found if end in computed else waiting).append(end)
    return found


class _Listener:
    """Records the inputs of the blocks' modules in a call, and moves the result of one block."""

    def __init__(self, subject: ModelUnderTest, modules: dict[str, list[str]]) -> None:
        self.subject, self.moved = subject, ""
        self.heard: dict[str, list[Tensor]] = {node: [] for node in modules}
        self.speaking: set[str] = set()
        self.handles = []
        for node, paths in modules.items():
            for path in paths:
                module = subject.locator.modules[path]
                self.handles.append(module.register_forward_pre_hook(self._hear(node), with_kwargs=True))
                self.handles.append(module.register_forward_hook(self._speak(node)))

    def __enter__(self) -> _Listener:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def run(self, moved: str | None) -> dict[str, list[Tensor]]:
        """Return the floating point inputs of each block, with the result of the block ``moved`` changed by noise."""
        self.moved = moved or ""
        self.heard = {node: [] for node in self.heard}
        self.subject.logits(self.subject.inputs())
        return self.heard

    def _hear(self, node: str) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
            tensors = [tensor for tensor in graph_tensors((args, kwargs)) if tensor.is_floating_point()]
            self.heard[node] += [tensor.detach().clone() for tensor in tensors]

        return hook

    def _speak(self, node: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            result = first_tensor(output)
            if result is None or not result.is_floating_point():
                return None
            self.speaking.add(node)
            if node != self.moved:
                return None
            noise = torch.randn(result.shape, generator=torch.Generator().manual_seed(5)).to(result)
            moved = result + NOISE * noise * result.abs().max()
            return (moved, *output[1:]) if isinstance(output, tuple) else moved if output is not None else None

        return hook


def _are_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        left.shape == right.shape and torch.equal(left, right) for left, right in zip(one, other, strict=True)
    )


def _finding(node: Node, what: str, location: Location, fix: str) -> Finding:
    return finding_at("drawn graph", "warning", f"The block {node.id} {what}.", location, f"{fix}.")
