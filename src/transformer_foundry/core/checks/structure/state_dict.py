"""Check that the state dict restores the model in another build, and that builds depend on the seed only."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import error_message
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest

__all__ = ["check_reproducible_build", "check_state_dict"]

OTHER_SEED = 12345
TOLERANCE = 1e-5


def check_reproducible_build(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that the same seed builds the same weights, another seed other ones, and no weight is NaN."""
    if subject.rebuild is None:
        return
    state = torch.random.get_rng_state()
    same, other = subject.rebuild(0), subject.rebuild(OTHER_SEED)
    torch.random.set_rng_state(state)
    values = [dict(model.named_parameters()) for model in (subject.model, same, other)]
    unset = [name for name, value in values[0].items() if not bool(torch.isfinite(value).all())]
    changing = [name for name, value in values[0].items() if not torch.equal(value, values[1].get(name, value))]
    if unset or changing:
        name = (unset or changing)[0]
        what = "holds NaN or infinity" if unset else "differs between two builds with the same seed"
        yield finding_at(
            "initialization",
            "error" if unset else "warning",
            f"The parameter {name} {what}: its memory is never initialized, or its values come from another random "
            "generator. Runs cannot be repeated, and such values are arbitrary.",
            _parameter_location(subject, name),
            "initialize it: nn.init.normal_(parameter, std=0.02) instead of torch.empty or torch.Tensor alone.",
        )
    random = [
        name for name, value in values[0].items() if value.ndim >= 2 and bool((value != value.flatten()[0]).any())
    ]
    if random and all(torch.equal(values[0][name], values[2].get(name, values[0][name])) for name in random):
        yield finding_at(
            "global seed",
            "warning",
            "Every build has the same random weights at any seed: the code seeds the global generator itself. Runs "
            "with several seeds are copies of one, and the rest of the program loses its own seed.",
            subject.locator.call_of({"manual_seed", "seed_all", "set_rng_state"}),
            "remove torch.manual_seed(...) from the model's code; Foundry sets the seed (training.seed).",
        )


def check_state_dict(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that a build with another seed gives the same output after it loaded the state dict of this model."""
    if subject.rebuild is None:
        return
    other = subject.rebuild(OTHER_SEED).eval()
    inputs = subject.inputs(batch=2)
    try:
        other.load_state_dict(subject.model.state_dict())
    except (RuntimeError, KeyError) as err:
        yield finding_at(
            "state",
            "error",
            f"The saved state does not fit another build of the model: {error_message(err, 200)}. "
            "Checkpoints cannot be loaded.",
            subject.locator.forward(),
            "create the same parameters in every build; none may depend on random numbers or on the first call.",
        )
        return
    base, loaded = subject.logits(inputs), _logits_of(subject, other, inputs)
    difference = float((base - loaded).abs().max())
    if difference <= TOLERANCE * max(1e-3, float(base.abs().max())):
        return
    yield finding_at(
        "state",
        "error",
        "The saved state is incomplete: another build that loads it gives other outputs (difference "
        f"{difference:.2g}). A random value is stored outside parameters and buffers, or in a buffer that is not "
        "saved: a loaded checkpoint is another model.",
        _unsaved(subject, other),
        "store it as nn.Parameter, or register_buffer(name, value, persistent=True).",
    )


def _logits_of(subject: ModelUnderTest, model: nn.Module, inputs: Inputs) -> Tensor:
    original = subject.adapter.model
    subject.adapter.model = model
    try:
        return subject.logits(inputs)
    finally:
        subject.adapter.model = original


def _unsaved(subject: ModelUnderTest, other: nn.Module) -> Location:
    """Return the location of a tensor that differs although the state was loaded."""
    others = dict(other.named_modules())
    for path, module in subject.model.named_modules():
        twin = others.get(path)
        for name, value in _tensors(module).items():
            twin_value = None if twin is None else _tensors(twin).get(name)
            if twin_value is not None and not torch.equal(value, twin_value):
                return subject.locator.attribute(path, name)
    return subject.locator.forward()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors in attributes and buffers of ``module`` itself."""
    attributes = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    return attributes | dict(module.named_buffers(recurse=False, remove_duplicate=False))


def _parameter_location(subject: ModelUnderTest, name: str) -> Location:
    owner, _, attribute = name.rpartition(".")
    return subject.locator.attribute(owner, attribute)
