"""Check that every weight is registered, so that training finds it, and not frozen."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.probing.trace import record_calls
from transformer_foundry.core.models.side_effects import own_attributes

__all__ = ["check_frozen_parameters", "check_registration"]


def check_registration(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that no module or parameter is in a plain list, dictionary or tuple, or created in forward."""
    known = {id(item) for item in [*subject.model.modules(), *subject.model.parameters(), *subject.model.buffers()]}
    found: dict[str, tuple[str, str, nn.Module | nn.Parameter]] = {}
    for path, module in subject.model.named_modules():
        for name, value in own_attributes(module).items():
            for item in _hidden(value, known):
                found.setdefault(f"{path}.{name}".strip("."), (path, name, item))
    grouped: dict[tuple[str, str], list[tuple[str, str, nn.Module | nn.Parameter]]] = {}
    for owner, name, item in found.values():
        grouped.setdefault((type(_module(subject.model, owner)).__name__, name), []).append((owner, name, item))
    for group in grouped.values():
        yield _unregistered(subject, group)
    if not grouped and subject.runs:
        yield from _created_in_forward(subject, known)


def _created_in_forward(subject: ModelUnderTest, known: set[int]) -> Iterator[Finding]:
    """Find parameters of a forward pass that the model does not have, because each call creates them."""
    with torch.enable_grad(), torch.random.fork_rng(devices=[]), record_calls(subject.model, subject.source) as record:
        subject.call(subject.inputs(batch=2))
    held = {item.data_ptr() for item in subject.model.parameters()}
    for tensor, module, line in record.learned.values():
        if id(tensor) in known or tensor.data_ptr() in held:
            continue
        yield finding_at(
            "unregistered parameters",
            "error",
            f"forward uses weights of shape {tuple(tensor.shape)} that the model does not have: they are created in "
            "each call, or stored outside the model, so they are not trained and not saved.",
            subject.locator.at(line, module),
            "create the layer or nn.Parameter in __init__, as an attribute of the module, and use it here.",
        )
        return


def _unregistered(subject: ModelUnderTest, group: list[tuple[str, str, nn.Module | nn.Parameter]]) -> Finding:
    owner, name, item = group[0]
    location = subject.locator.attribute(owner, name)
    container = type(vars(_module(subject.model, owner))[name]).__name__
    what = f"Modules ({type(item).__name__})" if isinstance(item, nn.Module) else "Parameters"
    holder = "nn.ModuleDict" if container == "dict" else "nn.ModuleList"
    others = f" and {len(group) - 1} like it" if len(group) > 1 else ""
    return finding_at(
        "unregistered parameters",
        "error",
        f"{what} are kept in a plain Python {container}, {location.module}{others}: model.parameters() does not list "
        "them, so they are not trained, not saved, and not moved to the GPU.",
        location,
        f"wrap the {container} in {holder} (parameters: nn.ParameterList, nn.ParameterDict).",
    )


def check_frozen_parameters(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that weights have requires_grad set, except tables of sines and cosines."""
    frozen = [
        (path, name, parameter)
        for path, module in subject.model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if not parameter.requires_grad
        and parameter.is_floating_point()
        and parameter.numel()
        and not _is_sinusoidal_table(parameter)
    ]
    if not frozen:
        return
    total = sum(parameter.numel() for parameter in subject.model.parameters())
    share = sum(parameter.numel() for _, _, parameter in frozen) / max(1, total)
    path, name, _ = frozen[0]
    location = subject.locator.attribute(path, name)
    line = _line_of(subject, {"requires_grad_"}, "requires_grad")
    location = subject.locator.at(line, path or None) if line is not None and not location.block else location
    yield finding_at(
        "frozen parameters",
        "warning" if share < 1 else "error",
        f"{len(frozen)} parameter tensors are frozen (requires_grad is False), {share:.0%} of all weights, for "
        f"example {path}.{name}: training never changes them, so they keep their random values.",
        location,
        "remove requires_grad = False, unless these weights are loaded from a trained model.",
    )


def _line_of(subject: ModelUnderTest, calls: set[str], attribute: str) -> SourceLine | None:
    """Return the first line that calls a function in ``calls`` or reads ``attribute``."""
    for file in subject.source.files.values():
        for node in ast.walk(file.tree):
            name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
            if isinstance(node, ast.Call) and name in calls:
                return SourceLine(file.path, node.lineno)
            if isinstance(node, ast.Attribute) and node.attr == attribute:
                return SourceLine(file.path, node.lineno)
    return None


def _hidden(value: object, known: set[int], depth: int = 3) -> Iterator[nn.Module | nn.Parameter]:
    if isinstance(value, nn.Module | nn.Parameter):
        if id(value) not in known and (isinstance(value, nn.Parameter) or any(True for _ in value.parameters())):
            yield value
    elif depth and isinstance(value, Mapping):
        for item in list(value.values()):
            yield from _hidden(item, known, depth - 1)
    elif depth and isinstance(value, list | tuple | set):
        for item in value:
            yield from _hidden(item, known, depth - 1)


def _module(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path) if path else model


def _is_sinusoidal_table(parameter: Tensor) -> bool:
    """Return whether a frozen table contains sines and cosines: equal norms of rows, and no value above 1."""
    rows = parameter.detach().float().reshape(-1, parameter.shape[-1])
    if parameter.ndim < 2 or rows.abs().max() > 1 + 1e-4:
        return False
    norms = rows.pow(2).sum(dim=1)
    return bool(torch.allclose(norms, norms.max().expand_as(norms), rtol=1e-2) or norms.min() == 0)
