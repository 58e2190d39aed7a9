"""Check that every expert of a mixture counts, and that experts are interchangeable with their routers' rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import (
    Inputs,
    ModelUnderTest,
    generic_weights,
    loss_of_random_labels,
)
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.models.side_effects import restore_weights

__all__ = ["check_experts"]

# Each batch has other weights, so other experts are chosen: one that is idle in all of them cannot be reached.
BATCHES = 8
SAMPLES = 8
CHOOSING = ("softmax", "sigmoid", "topk", "argmax")
NAMES = re.compile(r"expert|moe|ffn|mlp|branch|feed")
SHORTEST = 2
SMALLEST_SHARE = 1e-9
# Sums in another order round differently.
DIFFERENT = 1e-3


@dataclass(frozen=True)
class _Mixture:
    """Experts beside their router: parameters by expert, all of one form.

    Attributes:
        path: Path of the list, or name of the parameter that holds all experts along its first axis.
        size: Number of experts.
        weights: Names of the parameters of each expert; one name for a parameter that holds all.
    """

    path: str
    size: int
    weights: tuple[tuple[str, ...], ...]


def check_experts(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that every expert gets a gradient, and exchanging two with their rows of the router changes nothing."""
    mixtures = _mixtures(subject)
    if not subject.is_differentiable or not mixtures:
        return
    parameters = dict(subject.model.named_parameters(remove_duplicate=False))
    live = {mixture.path: torch.zeros(mixture.size, dtype=torch.bool) for mixture in mixtures}
    for batch in range(BATCHES):
        names = sorted({name for mixture in mixtures for group in mixture.weights for name in group})
        with generic_weights(subject.model, seed=90 + batch), torch.enable_grad():
            loss = loss_of_random_labels(subject, subject.inputs(batch=SAMPLES, seed=90 + batch), seed=batch)
            found = torch.autograd.grad(loss, [parameters[name] for name in names], allow_unused=True)
        gradients = dict(zip(names, found, strict=True))
        for mixture in mixtures:
            live[mixture.path] |= _live(mixture, gradients)
        if all(bool(item.all()) for item in live.values()):
            break
    for mixture in mixtures:
        used = live[mixture.path]
        if bool(used.any()) and not bool(used.all()):
            yield _idle(subject, mixture, used)
            return
    unweighted = next((mixture for mixture in mixtures if _is_unweighted(subject, mixture)), None)
    if unweighted is not None:
        yield _without_gates(subject, unweighted)
        return
    yield from _exchanged(subject, mixtures)


def _mixtures(subject: ModelUnderTest) -> list[_Mixture]:
    """Return the lists and parameters with as many items as a router near them has scores."""
    found = []
    for path, module in subject.model.named_modules():
        prefix = f"{path}." if path else ""
        for name, child in module.named_children():
            if not isinstance(child, nn.ModuleList) or len({type(item) for item in child}) != 1:
                continue
            size = len(child)
            groups = tuple(
                tuple(f"{prefix}{name}.{index}.{key}" for key, _ in item.named_parameters())
                for index, item in enumerate(child)
            )
            if size >= SHORTEST and all(groups) and NAMES.search(name) and _chooses(subject, path, size):
                found.append(_Mixture(f"{prefix}{name}", size, groups))
        for name, item in module.named_parameters(recurse=False):
            is_stack = (
                item.ndim == 3 and item.requires_grad and item.shape[0] >= SHORTEST and "Conv" not in str(type(module))
            )
            if is_stack and item.shape[0] not in item.shape[1:] and _chooses(subject, path, item.shape[0]):
                found.append(_Mixture(f"{prefix}{name}", item.shape[0], ((f"{prefix}{name}",),)))
    return found


def _chooses(subject: ModelUnderTest, path: str, size: int) -> bool:
    """Return whether ``size`` scores become probabilities, or one is picked, in a module or in the one around it."""
    above = path.rpartition(".")[0]
    return any(
        call.name in CHOOSING and call.inputs and call.inputs[0].ndim > 1 and call.inputs[0].shape[-1] == size
        for call in subject.trace.operations
        if call.module == above or call.module.startswith(f"{above}." if above else "")
    )


def _live(mixture: _Mixture, gradients: Mapping[str, Tensor | None]) -> Tensor:
    """Return (E,) bool: which experts got a gradient."""
    if len(mixture.weights) == 1:
        gradient = gradients[mixture.weights[0][0]]
        if gradient is None:
            return torch.zeros(mixture.size, dtype=torch.bool)
        sizes = gradient.abs().flatten(1).amax(dim=1)
    else:
        sizes = torch.tensor(
            [
                max((float(item.abs().max()) for name in group if (item := gradients[name]) is not None), default=0.0)
                for group in mixture.weights
            ]
        )
    return (sizes > SMALLEST_SHARE * sizes.max()) & (sizes > 0)


def _is_unweighted(subject: ModelUnderTest, mixture: _Mixture) -> bool:
    """Return whether the logits have no gradient for the router, although experts have one."""
    rows = _router_rows(subject, mixture)
    if rows is None or not rows[0].requires_grad:
        return False
    with generic_weights(subject.model), torch.enable_grad():
        loss = loss_of_random_labels(subject, subject.inputs(batch=SAMPLES))
        gradient = torch.autograd.grad(loss, [rows[0]], allow_unused=True)[0]
    return gradient is None or not gradient.any()


def _without_gates(subject: ModelUnderTest, mixture: _Mixture) -> Finding:
    return finding_at(
        "experts",
        "warning",
        f"The router of {mixture.path} gets no gradient from the logits: its probabilities are computed, but do not "
        "multiply the outputs of the experts. It never learns which expert is good for which token; a loss that "
        "balances the load, if there is one, teaches it nothing else.",
        _place(subject, mixture.path),
        "weight the experts: out = sum over the chosen e of gates[:, e, None] * experts[e](x).",
    )


def _exchanged(subject: ModelUnderTest, mixtures: list[_Mixture]) -> Iterator[Finding]:
    """Find a mixture that gives another result when two experts change places, with their rows of the router."""
    if subject.mixes_samples or any("group" in str(key) for key in subject.config):
        return  # Groups of experts are chosen first, and their members belong together.
    for mixture in mixtures:
        rows = _router_rows(subject, mixture)
        if len(mixture.weights) != mixture.size or rows is None:
            continue
        inputs = subject.inputs(batch=2)
        with generic_weights(subject.model):
            base = subject.logits(inputs)
            for one, other in ((0, 1), (1, mixture.size - 1))[: 1 + (mixture.size > 2)]:
                moved = _with_exchanged(subject, mixture, rows, (one, other), inputs)
                difference = float((moved - base).abs().max())
                if difference > DIFFERENT * float(base.abs().max()):
                    yield _depends_on_place(subject, mixture, (one, other), difference, base)
                    return


def _router_rows(subject: ModelUnderTest, mixture: _Mixture) -> list[nn.Parameter] | None:
    """Return the weight (and bias) of the one linear layer that scores the experts; None if that is not certain."""
    owner = subject.locator.modules[mixture.path.rpartition(".")[0]]
    layers = [
        child
        for name, child in owner.named_children()
        if isinstance(child, nn.Linear) and child.out_features == mixture.size
    ]
    plain = [*owner.parameters(recurse=False), *owner.buffers(recurse=False)]
    return list(layers[0].parameters()) if len(layers) == 1 and not plain else None


def _with_exchanged(
    subject: ModelUnderTest, mixture: _Mixture, rows: list[nn.Parameter], pair: tuple[int, int], inputs: Inputs
) -> Tensor:
    parameters = dict(subject.model.named_parameters(remove_duplicate=False))
    one, other = pair
    pairs = [
        (parameters[left], parameters[right])
        for left, right in zip(mixture.weights[one], mixture.weights[other], strict=True)
    ]
    with restore_weights([*rows, *(item for both in pairs for item in both)]), torch.no_grad():
        for row in rows:
            row[[one, other]] = row[[other, one]].clone()
        for left, right in pairs:
            kept = left.clone()
            left.copy_(right)
            right.copy_(kept)
        return subject.logits(inputs)


def _depends_on_place(
    subject: ModelUnderTest, mixture: _Mixture, pair: tuple[int, int], difference: float, base: Tensor
) -> Finding:
    return finding_at(
        "experts",
        "warning",
        f"The experts of {mixture.path} are not interchangeable: with experts {pair[0]} and {pair[1]} exchanged "
        f"together with their rows of the router, the logits differ by {difference:.2g} (their spread is "
        f"{float(base.std()):.2g}), where nothing should change. The weight of one expert is used for another, or "
        "tokens go to an expert that was not chosen.",
        _place(subject, mixture.path),
        "multiply the output of expert e by the router's probability of e, for the tokens that chose e.",
    )


def _idle(subject: ModelUnderTest, mixture: _Mixture, used: Tensor) -> Finding:
    idle = (~used).nonzero().flatten().tolist()
    shown = ", ".join(map(str, idle[:4])) + (f" and {len(idle) - 4} more" if len(idle) > 4 else "")
    return finding_at(
        "experts",
        "warning",
        f"Expert{'s' if len(idle) > 1 else ''} {shown} of the {mixture.size} in {mixture.path} never count: in "
        f"{BATCHES} batches with random routers no token's output depends on them, while the others are used. The "
        "router's choice is ignored, or cannot name them.",
        _place(subject, mixture.path),
        "call experts[e] for the tokens whose chosen index is e, for every e from 0 to num_experts - 1.",
    )


def _place(subject: ModelUnderTest, path: str) -> Location:
    """Return the line of the owner's forward that uses the experts, otherwise the one that creates them."""
    owner, _, attribute = path.rpartition(".")
    module = subject.locator.modules[owner]
    file = subject.source.class_file(type(module))
    method = file.method(type(module).__name__, "forward") if file is not None else None
    for node in ast.walk(method) if method is not None else ():
        if isinstance(node, ast.Attribute) and node.attr == attribute and file is not None:
            return subject.locator.module(path, SourceLine(file.path, node.lineno))
    return subject.locator.attribute(owner, attribute)
