"""Check that every parameter gets a gradient from the loss."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.learning.differentiability import gradient_cut
from transformer_foundry.core.checks.learning.optional_calls import gradient_of_other_calls
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import (
    ModelUnderTest,
    generic_weights,
    loss_of_random_labels,
)
from transformer_foundry.core.checks.probing.trace import graph_tensors, record_calls
from transformer_foundry.core.models.adapter import Adapter

__all__ = ["check_unused_parameters"]

# Experts of a mixture are selected by the input: more batches reach more of them.
BATCHES = 4
SAMPLES = 8
SMALLEST_GRADIENT = 1e-12
SHOWN = 3
# Gradients below this share of the usual one may be rounding: float32 rounds to 6e-8, float64 to 1e-16.
FAINT = 1e-4
FAINT_IN_FLOAT64 = 1e-12
# Optional ids of another kind: shapes, pronunciations. The model computes positions that it does not get.
OTHER_IDS = re.compile(r"(?!position|token_type|decoder).*_ids")


def check_unused_parameters(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that every parameter gets a gradient from the loss."""
    if not subject.is_differentiable:
        return
    measured = _measure(subject)
    dead = [name for name, value in measured.largest.items() if not value > SMALLEST_GRADIENT]
    dead += _rounded(subject, measured.largest)
    dead = [name for name in dead if not _is_bias_of_key(name, measured.largest)]
    if dead:
        yield from _dead(subject, dead, measured)


def _rounded(subject: ModelUnderTest, largest: Mapping[str, float]) -> list[str]:
    """Return the weights whose gradient is rounding alone: it nearly vanishes, and in float64 it vanishes more."""
    usual = median(largest.values()) if largest else 0.0
    faint = [name for name, value in largest.items() if SMALLEST_GRADIENT < value < FAINT * usual]
    faint = [name for name in faint if not _is_bias_of_key(name, largest)]
    if not faint:
        return []
    try:
        model = copy.deepcopy(subject.model).double()
        with generic_weights(model), torch.enable_grad():
            exact = replace(subject, adapter=Adapter(model, subject.contract))
            logits = exact.adapter(*vars(subject.inputs(batch=SAMPLES, seed=40)).values())
            loss = (logits.double() * torch.sin(torch.arange(logits.numel()).reshape(logits.shape))).sum()
            weights = dict(model.named_parameters())
            found = torch.autograd.grad(loss, [weights[name] for name in largest], allow_unused=True)
    except (RuntimeError, TypeError):
        return []  # The model has float32 in its code, where float64 does not fit.
    sizes = {name: 0.0 if item is None else float(item.abs().max()) for name, item in zip(largest, found, strict=True)}
    smallest = FAINT_IN_FLOAT64 * median(sizes.values())
    return [name for name in faint if sizes[name] < smallest]


@dataclass
class _Measured:
    """Largest absolute gradient by parameter (-1: no path to the loss), and what else the passes showed."""

    largest: dict[str, float]
    cut: Location | None
    called: set[str]


def _measure(subject: ModelUnderTest) -> _Measured:
    parameters = {name: item for name, item in subject.model.named_parameters() if item.requires_grad and item.numel()}
    largest = dict.fromkeys(parameters, -1.0)
    called: set[str] = set()
    cut: Location | None = None
    for batch in range(BATCHES):
        with generic_weights(subject.model, seed=batch), torch.enable_grad():
            subject.model.zero_grad(set_to_none=True)
            inputs = subject.inputs(batch=SAMPLES, seed=40 + batch)
            if batch == 0:
                with record_calls(subject.model, subject.source) as record:
                    loss = loss_of_random_labels(subject, inputs)
                cut = gradient_cut(subject, record)
                called |= record.called
            else:
                loss = loss_of_random_labels(subject, inputs, seed=batch)
            if not loss.requires_grad:
                break
            torch.autograd.backward(loss)
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                largest[name] = max(largest[name], float(parameter.grad.abs().max()))
        if min(largest.values(), default=0.0) > SMALLEST_GRADIENT:
            break
    subject.model.zero_grad(set_to_none=True)
    return _Measured(largest, cut, called)


def _is_bias_of_key(name: str, largest: Mapping[str, float]) -> bool:
    """Return whether a bias has no gradient because softmax ignores a constant that is added to all scores."""
    weight = largest.get(f"{name.removesuffix('bias')}weight", 1.0)
    return name.endswith("bias") and largest[name] >= 0.0 and weight > SMALLEST_GRADIENT


def _dead(subject: ModelUnderTest, dead: list[str], measured: _Measured) -> Iterator[Finding]:
    groups = _groups(list(measured.largest), dead)
    conditional = {path for path in groups if _runs_on_condition(subject, path, measured.called)}
    conditional |= {path for path in groups if "expert" in path and path not in measured.called}
    conditional |= {path for path in groups if _lacks_its_input(subject, path)}
    groups = [path for path in groups if path not in conditional]
    least = {path: _more_than_rounding(path, measured.largest) for path in groups}
    groups = [path for path in groups if not _is_returned(subject, path, least[path])]
    groups = [path for path in groups if not _learns_from_other_calls(subject, path, least[path])]
    if not groups:
        return
    weights = dict(subject.model.named_parameters())
    count = sum(weights[name].numel() for name in dead)
    share = count / max(1, sum(parameter.numel() for parameter in weights.values()))
    first = _dangling(subject, groups)
    owner, _, attribute = first.rpartition(".")
    location = subject.locator.attribute(owner, attribute) if first in weights else subject.locator.module(first)
    never = not any(path == first or path.startswith(f"{first}.") for path in measured.called) and first not in weights
    shown = ", ".join(groups[:SHOWN]) + (f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else "")
    cut = measured.cut if min(measured.largest[name] for name in dead) < 0.0 else None
    if cut is not None:
        why = f" The path from the loss to them is cut at {cut.file_name}:{cut.line.number if cut.line else '?'}."
        fix = "remove .detach(), .data, torch.tensor(x.tolist()) or torch.no_grad() there."
    elif never:
        why = " They are created but never called, so they have no effect."
        fix = "connect it, or delete it."
    else:
        why = " Their result does not reach the output, or cancels there: as weights that are divided by their sum."
        fix = "connect its output (add it to the residual path, multiply by the weights), or delete the block."
    yield finding_at(
        "gradients",
        "error" if cut is not None else "warning",
        f"{len(dead)} parameter tensors ({share:.0%} of the weights) never get a gradient and never learn: "
        f"{shown}.{why}",
        cut or location,
        fix,
    )


def _more_than_rounding(path: str, largest: Mapping[str, float]) -> float:
    """Return the gradient that a path to the loss gives at least, where ``largest`` was rounding."""
    found = max(value for name, value in largest.items() if name == path or name.startswith(f"{path}."))
    return found / FAINT if found > SMALLEST_GRADIENT else SMALLEST_GRADIENT


def _lacks_its_input(subject: ModelUnderTest, path: str) -> bool:
    """Return whether a table got only padding, because ``forward`` takes optional ids that were not given."""
    table = subject.locator.modules.get(path)
    contract = subject.contract
    given = {contract.ids_argument, contract.decoder_ids_argument, *dict(contract.fixed_arguments)}
    others = [name for name in inspect.signature(subject.model.forward).parameters if OTHER_IDS.fullmatch(name)]
    if not isinstance(table, nn.Embedding) or table.padding_idx is None or given.issuperset(others):
        return False
    fed = [call.inputs[0] for call in subject.trace.modules if call.module == path and call.inputs]
    return bool(fed) and all(bool((ids == table.padding_idx).all()) for ids in fed)


def _groups(names: list[str], dead: list[str]) -> list[str]:
    """Return the outermost modules all of whose parameters are dead, and single parameters otherwise."""
    remaining, groups = set(dead), []
    prefixes = sorted({name.rsplit(".", depth)[0] for name in dead for depth in range(1, name.count(".") + 1)}, key=len)
    for prefix in prefixes:
        below = [name for name in names if name.startswith(f"{prefix}.")]
        if below and remaining.issuperset(below):
            groups.append(prefix)
            remaining -= set(below)
    return sorted(
        groups + sorted(remaining), key=lambda path: names.index(next(n for n in names if n.startswith(path)))
    )


def _dangling(subject: ModelUnderTest, groups: list[str]) -> str:
    """Return the last group of the first run of dead modules: its unused result is why the others are dead."""
    ended = [call.module for call in subject.trace.modules]
    dead = [any(path == group or path.startswith(f"{group}.") for group in groups) for path in ended]
    if True not in dead:
        return groups[0]
    start = dead.index(True)
    end = next((index for index in range(start, len(dead)) if not dead[index]), len(dead))
    last = ended[end - 1]
    return next(group for group in groups if last == group or last.startswith(f"{group}."))


def _is_returned(subject: ModelUnderTest, path: str, least: float) -> bool:
    """Return whether the result of a module is another output of a module that contains it, as of a pooler."""
    parameter = _first_parameter(subject, path)
    above = [".".join(path.split(".")[:depth]) for depth in range(path.count(".") + 1)]
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: object, output: object) -> None:
        found = [tensor for tensor in graph_tensors(output) if tensor.requires_grad]
        outputs.extend(found if len(found) > 1 else ())  # The only output is the way to the logits.

    handles = [subject.locator.modules[name].register_forward_hook(keep) for name in above]
    try:
        with generic_weights(subject.model), torch.enable_grad():
            subject.call(subject.inputs(batch=2))
            if not outputs:
                return False
            total = torch.stack([output.float().pow(2).sum() for output in outputs]).sum()
            gradient = torch.autograd.grad(total, [parameter], allow_unused=True)[0]
    finally:
        for handle in handles:
            handle.remove()
    return gradient is not None and bool(gradient.abs().max() > least)


def _learns_from_other_calls(subject: ModelUnderTest, path: str, least: float) -> bool:
    """Return whether a module learns if the model gets labels or other optional inputs, as a head of sentence pairs."""
    with generic_weights(subject.model):
        gradient = gradient_of_other_calls(subject, _first_parameter(subject, path), subject.inputs(batch=SAMPLES))
    return gradient is not None and bool(gradient.max() > least)


def _first_parameter(subject: ModelUnderTest, path: str) -> nn.Parameter:
    weights = subject.model.named_parameters()
    return next(item for name, item in weights if name == path or name.startswith(f"{path}."))


def _runs_on_condition(subject: ModelUnderTest, path: str, called: set[str]) -> bool:
    """Return whether the source calls a module only under a condition: an optional input or a setting."""
    if any(name == path or name.startswith(f"{path}.") for name in called):
        return False
    owner_path, _, attribute = path.rpartition(".")
    owner = subject.locator.modules.get(owner_path)
    if isinstance(owner, nn.ModuleList | nn.ModuleDict):
        owner_path, _, attribute = owner_path.rpartition(".")
        owner = subject.locator.modules.get(owner_path)
    if owner is None:
        return False
    for base in type(owner).__mro__:
        file = subject.source.class_file(base)
        if file is not None and _only_under_if(file.classes[base.__name__], attribute):
            return True
    return False


def _only_under_if(definition: ast.ClassDef, attribute: str) -> bool:
    """Return whether the class uses ``self.attribute`` only under a condition in ``forward`` and what it calls."""
    methods = {item.name: item for item in definition.body if isinstance(item, ast.FunctionDef)}
    methods.pop("__init__", None)
    always, waiting = set[str](), ["forward"]
    while waiting:
        name = waiting.pop()
        if name in methods and name not in always:
            always.add(name)
            waiting += [other for other in methods if _uses_always(methods[name], other)]
    used = any(_uses(node, attribute) for method in methods.values() for node in ast.walk(method))
    return used and not any(_uses_always(methods[name], attribute) for name in always)


def _uses_always(method: ast.FunctionDef, attribute: str) -> bool:
    branches = [item for item in ast.walk(method) if isinstance(item, ast.If | ast.IfExp)]
    conditional = {id(inner) for branch in branches for inner in ast.walk(branch)}
    return any(_uses(node, attribute) and id(node) not in conditional for node in ast.walk(method))


def _uses(node: ast.AST, attribute: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )
