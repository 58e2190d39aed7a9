"""Check that the same input gives the same output, and that a call changes no global state."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.localize import first_changed_operation
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.checks.probing.reference.random_draws import ExtremeDraws
from transformer_foundry.core.checks.probing.trace import tensors_in
from transformer_foundry.core.models.side_effects import own_attributes
from transformer_foundry.core.system.random_state import capture_random, preserve_random

__all__ = ["check_determinism", "check_global_state", "check_statelessness"]

TOLERANCE = 1e-5
# A layer that is left out in one of 20 calls is seen with a probability of 98 %.
REPEATS = 80
CPU = torch.device("cpu")
LONGEST_REPEATING_S = 4.0
TORCH_CALLS = {"rand", "rand_like", "bernoulli", "bernoulli_", "randn", "randn_like", "randint", "randperm", "uniform_"}
RANDOM_CALLS = TORCH_CALLS | {"random", "uniform", "randrange", "choice", "gauss", "normal", "binomial", "sample"}


def check_determinism(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that in evaluation mode two calls with the same input agree at any random state."""
    inputs = subject.inputs(batch=2)
    first, second, third = (subject.logits(inputs, seed=seed) for seed in (1, 2, 1))
    if not _differ(first, second) and not _differ(first, third):
        yield from _rare_choices(subject, inputs, first)
        return
    if _differ(first, third) and _state_changes(subject, inputs):
        return  # A call changes the next one: ``check_statelessness`` reports it.
    traces = [subject.traced(inputs, seed=seed) for seed in (1, 2)]
    call = first_changed_operation(traces[0], traces[1], _differ)
    source = f" The randomness enters in the operation {call.name}." if call is not None else ""
    difference = max(float((first - second).abs().max()), float((first - third).abs().max()))
    yield finding_at(
        "determinism",
        "error",
        f"The same input gives different outputs in evaluation mode: two calls differ by {difference:.2g} (the logits "
        f"have a spread of {float(first.std()):.2g}).{source} Evaluation, generation and export become random.",
        subject.locator.at(call.line, call.module) if call is not None else subject.locator.forward(),
        "disable dropout in evaluation: F.dropout(x, p, training=self.training) or an nn.Dropout module; create "
        "layers and noise in __init__, not in forward.",
    )


def _rare_choices(subject: ModelUnderTest, inputs: Inputs, base: Tensor) -> Iterator[Finding]:
    """Find a random choice that is active in evaluation but seldom changes the output, as a layer left out in 5 %."""
    with torch.no_grad(), preserve_random(seed=0):
        before = capture_random(CPU).to_json()
        subject.call(inputs)
        moved = {name for name, state in capture_random(CPU).to_json().items() if state != before[name]}
    if not moved:
        return
    found = list(_extremes(subject, inputs, base)) or _other_draws(subject, inputs, base)
    if found:
        others = RANDOM_CALLS if moved != {"torch_cpu"} else TORCH_CALLS
        difference, where = max(found, key=lambda item: item[0])
        yield finding_at(
            "determinism",
            "error",
            f"Evaluation is random: a call draws random numbers, and other draws change the logits by {difference:.2g} "
            f"(their spread is {float(base.std()):.2g}), in evaluation mode and for the same input. Such a choice may "
            "be rare: a few calls agree by chance. Metrics, generation and export become random.",
            where or subject.locator.call_of(others),
            "draw in training only: if self.training and torch.rand(()) < p: ...",
        )


def _extremes(subject: ModelUnderTest, inputs: Inputs, base: Tensor) -> Iterator[tuple[float, Location | None]]:
    """Yield how far the smallest and the largest numbers that torch can draw move the logits, and where."""
    for is_largest in (False, True):
        with ExtremeDraws(is_largest):
            moved = subject.logits(inputs)
        if _differ(base, moved):
            usual = subject.traced(inputs)
            with ExtremeDraws(is_largest):
                call = first_changed_operation(usual, subject.traced(inputs), _differ)
            where = None if call is None else subject.locator.at(call.line, call.module)
            yield _distance(base, moved), where


def _other_draws(subject: ModelUnderTest, inputs: Inputs, base: Tensor) -> list[tuple[float, Location | None]]:
    """Repeat the call, for generators of other libraries, until one differs; each call draws other numbers."""
    end = time.perf_counter() + LONGEST_REPEATING_S
    for seed in range(REPEATS):
        moved = subject.logits(inputs, seed=10 + seed)
        if _differ(base, moved):
            return [(_distance(base, moved), None)]
        if time.perf_counter() > end:
            break
    return []


def check_statelessness(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a call keeps nothing that changes the next one, and no attribute grows with every call."""
    inputs = subject.inputs(batch=2)
    others = (
        subject.inputs(batch=2, seed=9),
        subject.inputs(batch=1, seed=10),
        subject.inputs(batch=2, length=max(1, subject.length // 2), seed=11),
    )
    before = subject.logits(inputs)
    state = {name: value.clone() for name, value in subject.model.state_dict().items() if isinstance(value, Tensor)}
    for other in others:
        subject.logits(other)
    after = subject.logits(inputs)
    if not _differ(before, after):
        yield from _growth(subject, inputs)
        return
    changed = [
        name
        for name, value in subject.model.state_dict().items()
        if isinstance(value, Tensor) and name in state and not torch.equal(value, state[name])
    ]
    what = f" Its tensor {changed[0]} changed." if changed else ""
    yield finding_at(
        "memory",
        "error",
        "A call depends on the calls before it: the same input gave another output after the model was called with "
        f"other inputs (difference {_difference(before, after)}).{what} Results depend on the order of the data, and "
        "one text leaks into the next.",
        _stored_tensor(subject, changed),
        "store no tensor of one call for the next: pass a cache in and out as an argument instead.",
    )


def _growth(subject: ModelUnderTest, inputs: Inputs) -> Iterator[Finding]:
    """Find an attribute that stores more tensors with every call."""
    counts = [_kept_tensors(subject.model)]
    for _ in range(2):
        subject.logits(inputs)
        counts.append(_kept_tensors(subject.model))
    for (path, name), count in counts[2].items():
        if count > counts[1].get((path, name), 0) > counts[0].get((path, name), 0):
            location = subject.locator.attribute(path, name)
            yield finding_at(
                "memory",
                "error",
                f"{location.module} grows with every call ({counts[0].get((path, name), 0)}, {counts[1][path, name]}, "
                f"{count} tensors after three calls in a row): memory usage grows, and old texts are kept.",
                location,
                "create the list in forward, so that each call starts with an empty one.",
            )
            return


def _kept_tensors(model: nn.Module) -> dict[tuple[str, str], int]:
    """Return (module, attribute) -> number of tensors in plain lists and dictionaries."""
    return {
        (path, name): len(tensors_in(value))
        for path, module in model.named_modules()
        for name, value in own_attributes(module).items()
        if isinstance(value, list | dict)
    }


def _state_changes(subject: ModelUnderTest, inputs: Inputs) -> bool:
    before = {name: value.clone() for name, value in _plain_state(subject).items()}
    subject.logits(inputs)
    after = _plain_state(subject)
    return any(name not in before or not torch.equal(before[name], value) for name, value in after.items())


def _plain_state(subject: ModelUnderTest) -> dict[str, Tensor]:
    """Return buffers and tensors in plain attributes."""
    state = dict(subject.model.named_buffers())
    for path, module in subject.model.named_modules():
        state |= {f"{path}.{name}": value for name, value in vars(module).items() if isinstance(value, Tensor)}
    return state


def check_global_state(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a call does not seed random generators or change its inputs, its mode or global settings."""
    yield from _reseeding(subject)
    inputs = subject.inputs(batch=2)
    copies = Inputs(inputs.ids.clone(), None, None if inputs.decoder_ids is None else inputs.decoder_ids.clone())
    enabled, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    changed: list[str] = []
    try:
        for training in (True, False):
            subject.model.train(training)
            with torch.random.fork_rng(devices=[]):
                subject.call(inputs)
            changed += [path for path, module in subject.model.named_modules() if module.training != training]
        leftover = torch.is_grad_enabled() != enabled or torch.get_default_dtype() != dtype
    finally:
        torch.set_grad_enabled(enabled)
        torch.set_default_dtype(dtype)
        subject.model.eval()
    forward = subject.locator.forward()
    if not torch.equal(inputs.ids, copies.ids) or not torch.equal(inputs.target, copies.target):
        yield finding_at(
            "inputs changed",
            "error",
            "forward overwrites the token ids that it gets: the caller has other ids afterwards, and labels made "
            "from them are wrong.",
            forward,
            "change a copy: input_ids = input_ids.clone().",
        )
    if changed:
        yield finding_at(
            "mode",
            "error",
            f"forward switches between training and evaluation mode itself ({changed[0] or 'the model'} is in the "
            "other mode after the call): dropout is active in evaluation, or never active in training.",
            subject.locator.module(changed[0]),
            "remove self.train() and self.eval() from forward: the training loop sets the mode.",
        )
    if leftover:
        yield finding_at(
            "global state",
            "error",
            "forward changes a global setting of torch (gradient mode or default dtype) and does not restore it.",
            forward,
            "use a context manager (with torch.no_grad():), or remove the setting.",
        )


def _reseeding(subject: ModelUnderTest) -> Iterator[Finding]:
    inputs = subject.inputs(batch=2)
    states = []
    subject.model.train()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for seed in (11, 12):
                torch.manual_seed(seed)
                subject.call(inputs)
                states.append(torch.get_rng_state())
    finally:
        subject.model.eval()
    if torch.equal(states[0], states[1]):
        yield finding_at(
            "global seed",
            "error",
            "forward seeds the global random generator: after a call the random state is the same whatever it was "
            "before. Every step then gets the same dropout mask and, in many programs, the same data.",
            subject.locator.call_of({"manual_seed", "seed", "seed_all", "set_rng_state"}),
            "remove torch.manual_seed(...) from forward: set a seed once, outside the model.",
        )


def _stored_tensor(subject: ModelUnderTest, changed: list[str]) -> Location:
    if changed:
        owner, _, name = changed[0].rpartition(".")
        return subject.locator.attribute(owner, name)
    for path, module in subject.model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                return subject.locator.attribute(path, name)
    return subject.locator.forward()


def _differ(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return True
    scale = float(left.nan_to_num(0, 0, 0).abs().max()) if left.numel() else 0.0
    return not torch.allclose(left, right, rtol=0, atol=TOLERANCE * max(scale, 1e-3), equal_nan=True)


def _distance(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max()) if left.shape == right.shape else float("nan")


def _difference(left: Tensor, right: Tensor) -> str:
    return f"{float((left - right).abs().max()):.2g}" if left.shape == right.shape else "in shape"
