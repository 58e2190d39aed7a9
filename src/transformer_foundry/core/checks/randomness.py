"""The same input gives the same output: no chance, no memory between calls, no meddling with global state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.locating import first_changed_operation
from transformer_foundry.core.checks.places import Place
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.subject import Inputs, Subject
from transformer_foundry.core.checks.tracing import run_traced

__all__ = ["check_determinism", "check_global_state", "check_memory"]

TOLERANCE = 1e-5


def check_determinism(subject: Subject) -> Iterator[Finding]:
    """In evaluation mode two calls with the same input agree, whatever the random state."""
    inputs = subject.inputs(batch=2)
    first, second = subject.logits(inputs, seed=1), subject.logits(inputs, seed=2)
    if first.shape == second.shape and not _differ(first, second):
        return
    traces = [
        run_traced(subject.model, subject.source, lambda seed=seed: subject.logits(inputs, seed=seed))
        for seed in (1, 2)
    ]
    step = first_changed_operation(traces[0], traces[1], _differ)
    place = subject.places.at(step.line, step.module) if step is not None else subject.places.forward()
    source = f" The randomness enters in the operation {step.name}." if step is not None else ""
    difference = float((first - second).abs().max()) if first.shape == second.shape else float("nan")
    yield Finding(
        "determinism",
        "error",
        f"The same input gives different outputs in evaluation mode: two calls differ by {difference:.2g} (the logits "
        f"have a spread of {float(first.std()):.2g}).{source} Evaluation, generation and export become a matter of "
        "chance.",
        str(place),
        place.lead(
            "switch dropout off in evaluation: F.dropout(x, p, training=self.training) or an nn.Dropout module; make "
            "layers and noise in __init__, not in forward."
        ),
    )


def check_memory(subject: Subject) -> Iterator[Finding]:
    """A call leaves nothing behind that changes the next one."""
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
    if before.shape == after.shape and not _differ(before, after):
        return
    changed = [
        name
        for name, value in subject.model.state_dict().items()
        if isinstance(value, Tensor) and name in state and not torch.equal(value, state[name])
    ]
    place = _memory_place(subject, changed)
    what = f" Its tensor {changed[0]} changed." if changed else ""
    yield Finding(
        "memory",
        "error",
        "A call depends on the calls before it: the same input gave another output after the model had seen other "
        f"inputs (difference {_difference(before, after)}).{what} Results depend on the order of the data, and the "
        "past of one text leaks into the next.",
        str(place),
        place.lead("keep no tensor of one call for the next: pass a cache in and out as an argument instead."),
    )


def check_global_state(subject: Subject) -> Iterator[Finding]:
    """A call does not reseed the random generators, change its inputs, its mode, or the gradient mode."""
    yield from _seeds(subject)
    inputs = subject.inputs(batch=2)
    copies = Inputs(inputs.ids.clone(), None, None if inputs.decoder_ids is None else inputs.decoder_ids.clone())
    subject.model.eval()
    modes = {path: module.training for path, module in subject.model.named_modules()}
    enabled, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]):
            subject.call(inputs)
        changed = [path for path, module in subject.model.named_modules() if module.training != modes[path]]
        leftover = torch.is_grad_enabled() != enabled or torch.get_default_dtype() != dtype
    finally:
        torch.set_grad_enabled(enabled)
        torch.set_default_dtype(dtype)
        subject.model.eval()
    forward = str(subject.places.forward())
    if not torch.equal(inputs.ids, copies.ids) or not torch.equal(inputs.target, copies.target):
        yield Finding(
            "inputs changed",
            "error",
            "forward overwrites the token ids it is given: whoever calls it finds other ids afterwards, and labels "
            "made from them are wrong.",
            forward,
            "Work on a copy: input_ids = input_ids.clone().",
        )
    if changed:
        yield Finding(
            "mode",
            "error",
            f"forward switches training mode itself ({changed[0] or 'the model'} was in evaluation mode before the "
            "call): dropout comes back in evaluation, or never works in training.",
            str(subject.places.module(changed[0])),
            "Remove self.train() and self.eval() from forward: the training loop sets the mode.",
        )
    if leftover:
        yield Finding(
            "global state",
            "error",
            "forward changes a global setting of torch (gradient mode or default number type) and leaves it changed.",
            forward,
            "Use it as a context (with torch.no_grad():), or remove it.",
        )


def _seeds(subject: Subject) -> Iterator[Finding]:
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
        place = _seed_place(subject)
        yield Finding(
            "global seed",
            "error",
            "forward seeds the global random generator: after a call the random state is the same whatever it was "
            "before. Every step draws the same dropout mask and, in many programs, the same data.",
            str(place),
            place.lead("remove torch.manual_seed(...) from forward: set a seed once, outside the model."),
        )


def _seed_place(subject: Subject) -> Place:
    for file, call, _name in subject.source.calls({"manual_seed", "seed", "seed_all", "set_rng_state"}):
        return subject.places.at((file.path, call.lineno))
    return subject.places.forward()


def _memory_place(subject: Subject, changed: list[str]) -> Place:
    if changed:
        owner, _, name = changed[0].rpartition(".")
        return subject.places.attribute(owner, name)
    holders: dict[str, nn.Module] = dict(subject.model.named_modules())
    for path, module in holders.items():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and name not in ("_parameters", "_buffers"):
                return subject.places.attribute(path, name)
    return subject.places.forward()


def _differ(left: Tensor, right: Tensor) -> bool:
    scale = float(left.abs().max()) if left.numel() else 0.0
    return not torch.allclose(left, right, rtol=0, atol=TOLERANCE * max(scale, 1e-3), equal_nan=True)


def _difference(left: Tensor, right: Tensor) -> str:
    return f"{float((left - right).abs().max()):.2g}" if left.shape == right.shape else "in shape"
