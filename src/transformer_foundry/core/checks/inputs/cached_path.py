"""Check that a text in parts, each with the cache of those before it, has the logits of the whole text."""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.attention.weights import attention_records
from transformer_foundry.core.checks.inputs.optional_inputs import call_with, optional_arguments
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.influence import replace_token
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights
from transformer_foundry.core.checks.probing.trace import TracedCall, graph_tensors, record_calls

__all__ = ["check_cached_path"]

CACHES = re.compile(r"(past|cache|kv|mems|state|layer_past|memory)\w*", re.IGNORECASE)
SWITCHES = re.compile(r"(use|return|with)_?(\w*)(cache|past|kv|state|mems)\w*", re.IGNORECASE)
STARTS = re.compile(
    r"(start|cur|input|cache)_?(pos|position)|start(_?(index|idx|at))?|(pos|position)?_?offset|past_len(gth)?",
    re.IGNORECASE,
)
MAKERS = re.compile(
    r"(init|new|make|create|empty|get|alloc\w*|setup)_?(kv_?)?(cache|caches|state|past)s?", re.IGNORECASE
)
TOLERANCE = 1e-3
PREFIX = 5

# Returns the keyword arguments of the next part, from its first position and the output of the part before.
Step = Callable[[int, Any], dict[str, Any] | None]


def check_cached_path(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a text in two parts, the second with the cache of the first, has the logits of the whole text."""
    if subject.contract.task != "causal_lm" or subject.length <= PREFIX + 2 or subject.contract.time_first:
        return
    if subject.contract.batch_argument is not None:
        return
    inputs = subject.inputs()
    with generic_weights(subject.model):
        whole = subject.logits(inputs)
        # A recurrence may accept single tokens only.
        attends = bool(attention_records(subject.trace, subject.lengths))
        is_known = False
        for protocol in _protocols(subject, attends):
            if is_known and protocol.is_guessed:
                return
            found = _compared(subject, inputs.ids, whole, protocol)
            if found and min(error for error, _ in found) > TOLERANCE * float(whole.abs().max()):
                error, way = found[0]
                location = _first_difference(subject, inputs, protocol.sizes, way())
                yield _other_result(protocol, error, whole, location)
                return
            is_known |= bool(found)


@dataclass(frozen=True)
class _Protocol:
    """A way to continue a text that ``forward`` may offer.

    Attributes:
        argument: Its argument.
        ways: Alternatives; each makes what gives the arguments of the parts.
        sizes: Lengths of the parts.
        is_guessed: Whether the ways count only if the last part depends on the first one.
    """

    argument: str
    ways: tuple[Callable[[], Step], ...]
    sizes: tuple[int, ...]
    is_guessed: bool


def _compared(
    subject: ModelUnderTest, ids: Tensor, whole: Tensor, protocol: _Protocol
) -> list[tuple[float, Callable[[], Step]]]:
    """Return (largest difference from the full pass, way) for each way that works; a way that agrees ends the list."""
    found = []
    for way in protocol.ways:
        try:
            parts = _in_parts(subject, ids, protocol.sizes, way())
        except Exception:  # A cache that is made in a way of our own: the model's code may raise anything.
            continue
        if parts is None or (protocol.is_guessed and not _uses_cache(subject, ids, protocol.sizes, way, parts)):
            continue  # The cache has a form that is not known here.
        error = float((parts - whole[:, : parts.shape[1]]).abs().max())
        found.append((error, way))
        if error <= TOLERANCE * float(whole.abs().max()):
            break
    return found


def _protocols(subject: ModelUnderTest, attends: bool) -> Iterator[_Protocol]:
    names = optional_arguments(subject)
    cache = next((name for name in names if CACHES.fullmatch(name)), None)
    switch = next((name for name in names if SWITCHES.fullmatch(name)), None)
    start = next((name for name in _numbers(subject) if STARTS.fullmatch(name)), None) or _only_zero(subject)
    flag: dict[str, Any] = {switch: True} if switch is not None else {}
    single, chunk = (PREFIX, 1, 1), (PREFIX, subject.length - PREFIX)
    starts = (None,) if start is None else (None, start)
    if cache is not None:
        returned = tuple(partial(_returned, cache, name, flag) for name in starts)
        for sizes in (single, chunk)[: 1 + attends]:
            yield _Protocol(cache, returned, sizes, False)
        makers = [*_made(subject), *_classes(subject), *_empty(subject)]
        kept = tuple(partial(_in_place, cache, make, name, flag) for make in makers for name in starts)
        yield _Protocol(cache, kept, single, True)
    if start is not None:
        numbers = tuple(partial(_numbered_parts, start, as_tensor, flag) for as_tensor in (False, True))
        yield _Protocol(start, numbers, single, True)


def _returned(cache: str, start: str | None, flag: dict[str, Any]) -> Step:
    """Return the arguments for a cache that each call returns."""

    def step(at: int, output: Any) -> dict[str, Any] | None:
        number = {} if start is None else {start: at}
        if at == 0:
            return {**flag, **number}
        kept = _cache_in(output)
        return None if kept is None else {**flag, **number, cache: kept}

    return step


def _in_place(cache: str, make: Callable[[], Any], start: str | None, flag: dict[str, Any]) -> Step:
    """Return the arguments for a cache that calls fill in place."""
    kept = make()

    def step(at: int, _output: Any) -> dict[str, Any]:
        return {**flag, cache: kept, **({} if start is None else {start: at})}

    return step


def _numbered_parts(start: str, as_tensor: bool, flag: dict[str, Any]) -> Step:
    """Return the arguments for a cache inside the model: the position of the first token."""
    return lambda at, _output: {**flag, start: torch.tensor([at]) if as_tensor else at}


def _made(subject: ModelUnderTest) -> Iterator[Callable[[], Any]]:
    """Yield calls of methods of the model that make a cache."""
    model, numbers = subject.model, {"batch": 1, "bs": 1, "b": 1, "max": subject.length, "len": subject.length}
    for name in dir(type(model)):
        if not MAKERS.fullmatch(name.strip("_")) or not inspect.isfunction(getattr(type(model), name)):
            continue
        method = getattr(model, name)
        required = [item for item in inspect.signature(method).parameters.values() if item.default is item.empty]
        given = [next((size for word, size in numbers.items() if word in item.name), None) for item in required]
        if None not in given:
            yield partial(method, *given)


def _classes(subject: ModelUnderTest) -> Iterator[Callable[[], Any]]:
    """Yield calls of classes of model.py that are caches and need no arguments: one, and one for each layer."""
    layers = max((len(module) for _, module in subject.submodules(nn.ModuleList)), default=1)
    module = type(subject.model).__module__
    for name, kind in list(vars(sys.modules.get(module, object)).items()):
        is_cache = "cache" in name.lower() and inspect.isclass(kind) and not issubclass(kind, nn.Module)
        if is_cache and kind.__module__ == module:
            yield kind
            yield partial(_one_each, kind, layers)


def _one_each(kind: Callable[[], Any], count: int) -> list[Any]:
    return [kind() for _ in range(count)]


def _empty(subject: ModelUnderTest) -> list[Callable[[], Any]]:
    """Return makers of empty caches: a mapping or a list, or one for each layer."""
    layers = max((len(module) for _, module in subject.submodules(nn.ModuleList)), default=1)
    return [
        lambda: [{} for _ in range(layers)],
        dict,
        lambda: {index: {} for index in range(layers)},
        lambda: [None] * layers,
        lambda: [[] for _ in range(layers)],
        list,
    ]


def _numbers(subject: ModelUnderTest) -> list[str]:
    """Return the arguments that take a number: optional ones, and those for which 0 is passed."""
    fixed = [name for name, value in subject.contract.fixed_arguments if value == "zero"]
    return [*optional_arguments(subject), *fixed]


def _only_zero(subject: ModelUnderTest) -> str | None:
    """Return the one optional argument that is the number 0 unless given: where a part begins, whatever its name."""
    parameters = inspect.signature(subject.model.forward).parameters
    zeros = [name for name in optional_arguments(subject) if type(parameters[name].default) is int]
    zeros = [name for name in zeros if parameters[name].default == 0]
    return zeros[0] if len(zeros) == 1 else None


def _in_parts(
    subject: ModelUnderTest,
    ids: Tensor,
    sizes: tuple[int, ...],
    step: Step,
    before_last: Callable[[], None] = lambda: None,
) -> Tensor | None:
    """Return the logits of the parts of a text, (1, T, V), each part with the cache of those before it."""
    found, start, output = [], 0, None
    for number, size in enumerate(sizes):
        if number == len(sizes) - 1:
            before_last()
        given = step(start, output)
        result = None if given is None else call_with(subject, Inputs(ids[:, start : start + size]), given)
        if result is None or result[0].shape[1] != size:
            return None
        logits, output = result
        found.append(logits.float())
        start += size
    return torch.cat(found, dim=1)


def _uses_cache(
    subject: ModelUnderTest, ids: Tensor, sizes: tuple[int, ...], way: Callable[[], Step], parts: Tensor
) -> bool:
    """Return whether the last part depends on a token of the first one, so that a cache is in use."""
    others = _in_parts(subject, replace_token(subject, ids, 0), sizes, way())
    return others is not None and bool((others[:, sizes[0] :] != parts[:, sizes[0] :]).any())


def _cache_in(output: Any) -> Any:
    """Return the part of an output that holds tensors and is not the logits; None when there are several or none."""
    if isinstance(output, dict):
        parts = list(output.values())
    elif isinstance(output, tuple | list):
        parts = list(output)
    else:
        parts = list(vars(output).values()) if hasattr(output, "__dict__") else []
    parts = [part for part in parts if not isinstance(part, Tensor) or part.ndim > 3]
    parts = [part for part in parts if part is not None and (graph_tensors(part) or hasattr(part, "update"))]
    return parts[0] if len(parts) == 1 else None


def _first_difference(subject: ModelUnderTest, inputs: Inputs, sizes: tuple[int, ...], step: Step) -> Location:
    """Return the first operation of the last part whose result is not that of the full pass at the same position."""
    whole = dict(_numbered(subject.traced(inputs).calls))
    with record_calls(subject.model, subject.source) as trace:
        _in_parts(subject, inputs.ids, sizes, step, before_last=trace.calls.clear)
    start, length = sum(sizes[:-1]), inputs.ids.shape[1]
    for key, call in _numbered(trace.calls):
        other = whole.get(key)
        expected = None if other is None else _rows(other.output, length, slice(start, sum(sizes)), call.output.shape)
        if expected is not None and _differ(expected, call.output) and call.line is not None:
            return subject.locator.at(call.line, call.module)
    return subject.locator.forward()


def _numbered(calls: list[TracedCall]) -> Iterator[tuple[tuple[str, str, int], TracedCall]]:
    """Yield each call with its module, its name and how many of them came before."""
    counts: Counter[tuple[str, str]] = Counter()
    for call in calls:
        name = (call.module, call.name)
        yield (*name, counts[name]), call
        counts[name] += 1


def _rows(output: Tensor, length: int, rows: slice, shape: torch.Size) -> Tensor | None:
    """Return the part of a result of the full pass for some positions; None if it has another form."""
    for axis, size in enumerate(output.shape):
        if size == length and output.ndim == len(shape):
            part = output.narrow(axis, rows.start, rows.stop - rows.start)
            if part.shape == shape:
                return part
    return None


def _differ(expected: Tensor, found: Tensor) -> bool:
    if not expected.is_floating_point():
        return not torch.equal(expected, found)
    return float((expected - found).abs().max()) > TOLERANCE * float(expected.abs().max())


def _other_result(protocol: _Protocol, error: float, whole: Tensor, location: Location) -> Finding:
    sizes, cache = protocol.sizes, protocol.argument
    what = "token by token" if sizes[-1] == 1 else f"in two parts of {sizes[0]} and {sizes[1]} tokens"
    return finding_at(
        "cache",
        "error",
        f"The cached path gives another result than the full pass: with {cache}, a text {what} has logits that differ "
        f"by {error:.2g} (their spread is {float(whole.std()):.2g}). Generation continues from states that training "
        "never saw.",
        location,
        "let positions and the causal mask begin behind the cached tokens (offset = past length), and append new keys "
        "and values along the time axis of every layer.",
    )
