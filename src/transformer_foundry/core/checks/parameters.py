"""Every parameter is registered, learns, and is used."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.checks.explanations import describe, explain
from transformer_foundry.core.checks.places import Place
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.subject import Inputs, Subject, generic_weights
from transformer_foundry.core.checks.tracing import Trace, graph_tensors, trace

__all__ = ["check_differentiable", "check_frozen", "check_gradients", "check_unregistered", "loss_of_random_labels"]

# Experts of a mixture are chosen by the input: more batches reach more of them.
BATCHES = 4
SAMPLES = 8
SMALLEST_GRADIENT = 1e-12
SHOWN = 3


def check_unregistered(subject: Subject) -> Iterator[Finding]:
    """Modules and parameters in plain lists, dictionaries or tuples are invisible to training."""
    known = {id(item) for item in [*subject.model.modules(), *subject.model.parameters(), *subject.model.buffers()]}
    found: dict[str, tuple[str, str, nn.Module | nn.Parameter]] = {}
    for path, module in subject.model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules") or name.startswith("_forward"):
                continue
            for item in _hidden(value, known):
                found.setdefault(f"{path}.{name}".strip("."), (path, name, item))
    grouped: dict[tuple[str, str], list[tuple[str, str, nn.Module | nn.Parameter]]] = {}
    for owner, name, item in found.values():
        grouped.setdefault((type(_module(subject.model, owner)).__name__, name), []).append((owner, name, item))
    for group in grouped.values():
        yield _unregistered(subject, group)


def _unregistered(subject: Subject, group: list[tuple[str, str, nn.Module | nn.Parameter]]) -> Finding:
    owner, name, item = group[0]
    place = subject.places.attribute(owner, name)
    container = type(vars(_module(subject.model, owner))[name]).__name__
    what = f"Modules ({type(item).__name__})" if isinstance(item, nn.Module) else "Parameters"
    holder = "nn.ModuleDict" if container == "dict" else "nn.ModuleList"
    others = f" and {len(group) - 1} like it" if len(group) > 1 else ""
    return Finding(
        "unregistered parameters",
        "error",
        f"{what} are kept in a plain Python {container}, {place.module}{others}: model.parameters() does not list "
        "them, so they are not trained, not saved, and not moved to the GPU.",
        str(place),
        place.lead(f"wrap the {container} in {holder} (parameters: nn.ParameterList, nn.ParameterDict)."),
    )


def check_frozen(subject: Subject) -> Iterator[Finding]:
    """Weights that are to be learned have requires_grad set."""
    frozen = [
        (path, name, parameter)
        for path, module in subject.model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if not parameter.requires_grad
        and parameter.is_floating_point()
        and parameter.numel()
        and not _is_table_of_waves(parameter)
    ]
    if not frozen:
        return
    total = sum(parameter.numel() for parameter in subject.model.parameters())
    share = sum(parameter.numel() for _, _, parameter in frozen) / max(1, total)
    path, name, _ = frozen[0]
    place = subject.places.attribute(path, name)
    line = _line_of(subject, {"requires_grad_"}, "requires_grad")
    place = subject.places.at(line, path or None) if line is not None and not place.block else place
    yield Finding(
        "frozen parameters",
        "warning" if share < 1 else "error",
        f"{len(frozen)} parameter tensors are frozen (requires_grad is False), {share:.0%} of all weights, for example "
        f"{path}.{name}: training never changes them, they keep their random values.",
        str(place),
        place.lead("remove requires_grad = False, unless these weights are loaded from a trained model."),
    )


def check_gradients(subject: Subject) -> Iterator[Finding]:
    """Every weight gets a gradient from the loss; rows of a position table too."""
    if not subject.evidence.get("differentiable", True):
        return
    measured = _measure(subject)
    subject.evidence["gradients"] = measured.largest
    dead = [name for name, value in measured.largest.items() if not value > SMALLEST_GRADIENT and _counts(name, value)]
    if dead:
        yield from _dead(subject, dead, measured)


def check_differentiable(subject: Subject) -> Iterator[Finding]:
    """The loss can be differentiated, and the backward pass runs."""
    inputs = subject.inputs(batch=2)
    subject.evidence["differentiable"] = False
    with torch.enable_grad():
        with trace(subject.model, subject.source) as record:
            loss = loss_of_random_labels(subject, inputs)
        if not loss.requires_grad:
            place = _cut(subject, record) or _integer_line(subject, record) or subject.places.forward()
            yield Finding(
                "differentiable",
                "error",
                "The output is cut off from every weight: the loss has no gradient at all, so nothing can learn.",
                str(place),
                place.lead("remove .detach(), .data, .item(), argmax, torch.tensor(...) and no_grad() from forward."),
            )
            return
        # Gradients are taken on a fresh pass: writing down what runs keeps copies, not the graph's own values.
        try:
            loss_of_random_labels(subject, inputs).backward()
        except RuntimeError as err:
            yield _backward_failure(subject, inputs, err)
            return
        finally:
            subject.model.zero_grad(set_to_none=True)
    subject.evidence["differentiable"] = True


def _integer_line(subject: Subject, record: Trace) -> Place | None:
    """Return the last place where floating point numbers were turned into indices."""
    steps = [
        step
        for step in record.operations
        if step.name in ("argmax", "topk", "round", "sign", "one_hot", "long", "int") and step.line is not None
    ]
    return subject.places.at(steps[-1].line, steps[-1].module or None) if steps else None


def _backward_failure(subject: Subject, inputs: Inputs, error: RuntimeError) -> Finding:
    """Run again with torch's anomaly mode, whose warning names the forward line that the gradient fails for."""
    line = None
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("always")
        try:
            loss_of_random_labels(subject, inputs).backward()
        except RuntimeError:
            text = "".join(str(item.message) for item in caught)
            found = [
                (path, int(number))
                for path, number in re.findall(r'File "([^"]+)", line (\d+)', text)
                if path in subject.source.files
            ]
            line = found[-1] if found else None
    place = subject.places.at(line) if line is not None else subject.places.forward()
    explanation = explain(error)
    return Finding(
        "differentiable",
        "error",
        f"The backward pass fails, so training stops at the first step. {explanation.meaning} The error: "
        f"{describe(error)}",
        str(place),
        place.lead(f"{explanation.fix}."),
    )


@dataclass
class _Measured:
    """Largest absolute gradient by parameter (-1: no path to the loss), and what else the backward passes told."""

    largest: dict[str, float]
    cut: Place | None
    called: set[str]


def loss_of_random_labels(subject: Subject, inputs: Inputs, seed: int = 0) -> Tensor:
    """Return the mean cross-entropy of the logits with random labels, in nats: every class pulls at every weight."""
    logits = subject.call(inputs)
    generator = torch.Generator().manual_seed(seed)
    flat = logits.reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, torch.randint(logits.shape[-1], (len(flat),), generator=generator))


def _measure(subject: Subject) -> _Measured:
    parameters = {name: item for name, item in subject.model.named_parameters() if item.requires_grad and item.numel()}
    largest = dict.fromkeys(parameters, -1.0)
    called: set[str] = set()
    cut: Place | None = None
    for batch in range(BATCHES):
        with generic_weights(subject.model, seed=batch), torch.enable_grad():
            subject.model.zero_grad(set_to_none=True)
            inputs = subject.inputs(batch=SAMPLES, seed=40 + batch)
            if batch == 0:
                with trace(subject.model, subject.source) as record:
                    loss = loss_of_random_labels(subject, inputs)
                cut = _cut(subject, record)
                called |= record.called
            else:
                loss = loss_of_random_labels(subject, inputs, seed=batch)
            if not loss.requires_grad:
                break
            loss.backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                largest[name] = max(largest[name], float(parameter.grad.abs().max()))
        if min(largest.values(), default=0.0) > SMALLEST_GRADIENT:
            break
    subject.model.zero_grad(set_to_none=True)
    return _Measured(largest, cut, called)


def _counts(name: str, value: float) -> bool:
    """Whether a parameter without gradient is a fault: a key's bias has none by the nature of softmax."""
    return not (name.endswith("bias") and value >= 0.0)


def _dead(subject: Subject, dead: list[str], measured: _Measured) -> Iterator[Finding]:
    groups = _groups(list(measured.largest), dead)
    conditional = {path for path in groups if _runs_on_condition(subject, path, measured.called)}
    groups = [path for path in groups if path not in conditional and not _is_returned(subject, path)]
    if not groups:
        return
    weights = dict(subject.model.named_parameters())
    count = sum(weights[name].numel() for name in dead)
    share = count / max(1, sum(parameter.numel() for parameter in weights.values()))
    first = groups[0]
    owner, _, attribute = first.rpartition(".")
    place = subject.places.attribute(owner, attribute) if first in weights else subject.places.module(first)
    never = not any(path == first or path.startswith(f"{first}.") for path in measured.called) and first not in weights
    shown = ", ".join(groups[:SHOWN]) + (f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else "")
    cut = measured.cut
    if cut is not None:
        why = f" The path from the loss to them is cut at {cut.file_name}:{cut.line[1] if cut.line else '?'}."
        where, fix = str(cut), cut.lead("remove .detach(), .data, torch.tensor(x.tolist()) or torch.no_grad() there.")
    elif never:
        why = " They are made but never called: their result is missing from the model, and they are dead weight."
        where, fix = str(place), place.lead("connect it, or delete it: nothing uses it now.")
    else:
        why = " What they compute is used nowhere: the result of the block does not reach the output."
        where, fix = str(place), place.lead("connect its output (add it to the residual path), or delete the block.")
    yield Finding(
        "gradients",
        "error" if cut is not None else "warning",
        f"{len(dead)} parameter tensors ({share:.0%} of the weights) never get a gradient and so never learn: {shown}."
        f"{why}",
        where,
        fix,
    )


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


def _is_returned(subject: Subject, path: str) -> bool:
    """Whether what a module computes is handed out as another output of a module above it: a pooler, for example."""
    parameter = next((item for name, item in subject.model.named_parameters() if name.startswith(path)), None)
    above = [".".join(path.split(".")[:depth]) for depth in range(path.count(".") + 1)]
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: object, output: object) -> None:
        outputs.extend(tensor for tensor in graph_tensors(output) if tensor.requires_grad)

    handles = [subject.places.modules[name].register_forward_hook(keep) for name in above]
    try:
        with generic_weights(subject.model), torch.enable_grad():
            subject.call(subject.inputs(batch=2))
            if parameter is None or not outputs:
                return False
            total = torch.stack([output.float().pow(2).sum() for output in outputs]).sum()
            gradient = torch.autograd.grad(total, [parameter], allow_unused=True)[0]
    finally:
        for handle in handles:
            handle.remove()
    return gradient is not None and bool(gradient.abs().max() > SMALLEST_GRADIENT)


def _runs_on_condition(subject: Subject, path: str, called: set[str]) -> bool:
    """Whether a module that did not run is one the source runs under a condition only: an optional input, a switch."""
    if any(name == path or name.startswith(f"{path}.") for name in called):
        return False
    owner_path, _, attribute = path.rpartition(".")
    owner = subject.places.modules.get(owner_path)
    if isinstance(owner, nn.ModuleList | nn.ModuleDict):
        owner_path, _, attribute = owner_path.rpartition(".")
        owner = subject.places.modules.get(owner_path)
    if owner is None:
        return False
    for base in type(owner).__mro__:
        file = subject.source.class_file(base)
        if file is not None and _only_under_if(file.classes[base.__name__], attribute):
            return True
    return False


def _only_under_if(definition: ast.ClassDef, attribute: str) -> bool:
    """Whether the class uses ``self.attribute``, yet no call of ``forward`` is bound to get there."""
    methods = {item.name: item for item in definition.body if isinstance(item, ast.FunctionDef)}
    methods.pop("__init__", None)
    bound, waiting = set[str](), ["forward"]
    while waiting:
        name = waiting.pop()
        if name in methods and name not in bound:
            bound.add(name)
            waiting += [other for other in methods if _uses_always(methods[name], other)]
    used = any(_uses(node, attribute) for method in methods.values() for node in ast.walk(method))
    return used and not any(_uses_always(methods[name], attribute) for name in bound)


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


def _cut(subject: Subject, record: Trace) -> Place | None:
    """Return the first place at which a value loses its gradient."""
    return next((subject.places.at(line, module or None) for _, module, line in record.cuts if line), None)


def _line_of(subject: Subject, calls: set[str], attribute: str) -> tuple[str, int] | None:
    """Return the first line of a ``forward`` that calls one of ``calls`` or reads ``attribute``."""
    for file in subject.source.files.values():
        for node in ast.walk(file.tree):
            name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
            if isinstance(node, ast.Call) and name in calls:
                return file.path, node.lineno
            if isinstance(node, ast.Attribute) and node.attr == attribute:
                return file.path, node.lineno
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


def _is_table_of_waves(parameter: Tensor) -> bool:
    """Whether a frozen table holds sines and cosines: every row has the same norm and no value exceeds 1."""
    rows = parameter.detach().float().reshape(-1, parameter.shape[-1])
    if parameter.ndim < 2 or rows.abs().max() > 1 + 1e-4:
        return False
    norms = rows.pow(2).sum(dim=1)
    return bool(torch.allclose(norms, norms.max().expand_as(norms), rtol=1e-2) or norms.min() == 0)
