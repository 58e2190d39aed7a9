"""Prove that a model of transformers with mapped weights is the drawn model: logits and gradients at several shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.export.native.families.candidate import HEAD, Candidate

__all__ = ["build", "equals", "load_weights", "mapped_state", "quiet_transformers", "randomize"]

# Largest difference, times the largest value: what float32 loses in models of many layers.
_TOLERANCE = 1e-4
# Small weights make small activations, so that the epsilons of the normalizations count.
_SMALL = 0.05


def randomize(module: nn.Module, seed: int, scale: float = 1.0) -> None:
    """Give all parameters random values, in place: then no two parts are equal by chance, and none has no effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            if parameter.ndim < 2:
                # Scales stay around one, biases around zero.
                center = parameter.mean().round().clamp(0, 1) if parameter.numel() else parameter
                parameter.copy_((center + 0.3 * noise) * scale)
            else:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5 * scale)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the warnings and progress bars of transformers while the block lasts: a proof needs no advice."""
    from transformers.utils import logging

    had_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


def build(candidate: Candidate) -> nn.Module:
    """Return the model of a candidate in evaluation mode, with initial weights.

    Raises:
        ValueError: Or another exception of transformers, if the configuration cannot be.
    """
    import transformers

    config = transformers.AutoConfig.for_model(candidate.model_type, **candidate.config)
    config.architectures = [candidate.architecture]
    model: Any = getattr(transformers, candidate.architecture)(config)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if candidate.config["tie_word_embeddings"] is False and head is not None and head.weight is embedding.weight:
        # transformers ties the head of a new T5 always, and that of a loaded one if the file has no head.
        head.weight = nn.Parameter(head.weight.detach().clone())
    built: nn.Module = model.eval()
    return built


def mapped_state(native: nn.Module, candidate: Candidate, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a candidate, built as ``native``, for parameters of the drawn model."""
    find: Any = getattr(native, "get_output_embeddings", lambda: None)
    head = find()
    name_of_head = next((name for name, part in native.named_modules() if part is head), "")
    return {name.replace(HEAD, name_of_head): expression(parameters) for name, expression in candidate.state.items()}


def _difference(expected: Tensor, found: Tensor, compared: Tensor | None) -> float:
    """Return the largest difference, relative to the largest value, infinite if it is none."""
    if expected.shape != found.shape:
        return float("inf")
    if compared is not None and expected.shape[: compared.ndim] == compared.shape:
        expected, found = expected[compared], found[compared]
    error = (expected - found).abs().max() / expected.abs().max()
    return float(torch.nan_to_num(error, nan=torch.inf))


def equals(
    drawn: nn.Module,
    candidate: Candidate,
    calls: list[tuple[Mapping[str, Tensor], Tensor | None]],
    call_native: Callable[[nn.Module, Mapping[str, Tensor]], Tensor],
) -> str:
    """Return why the candidate is not the drawn model, empty if it is, whatever the weights are.

    Args:
        drawn: Takes the tensors of a call and returns logits; its parameters are overwritten with random values.
        candidate: What is proved.
        calls: The tensors of each call, and which positions of the logits are compared. Gradients are compared for the
            last one, which must have no padding: transformers gives its embedding no gradient.
        call_native: Calls the model of transformers and returns logits.
    """
    native = build(candidate)
    for seed, scale in ((11, 1.0), (12, _SMALL)):
        randomize(drawn, seed, scale)
        if problem := load_weights(native, candidate, dict(drawn.named_parameters())):
            return problem
        for tensors, compared in calls:
            with torch.no_grad():
                error = _difference(drawn(**tensors), call_native(native, tensors), compared)
            if error > _TOLERANCE:
                shape = tuple(tensors["input_ids"].shape)
                return f"its logits differ by {error:.2g} of the largest at (batch, length) = {shape}"
    randomize(drawn, 13)
    return _gradients(drawn, native, candidate, calls[-1], call_native)


def load_weights(native: nn.Module, candidate: Candidate, parameters: Mapping[str, Tensor]) -> str:
    """Load the weights of a candidate; return what is missing, unknown or of another shape, empty if nothing is."""
    state = {name: tensor.detach() for name, tensor in mapped_state(native, candidate, parameters).items()}
    try:
        missing, unknown = native.load_state_dict(state, strict=False)
    except RuntimeError as err:
        return redact(str(err)).splitlines()[-1].strip()
    # A tied weight has two names and is one parameter.
    given = {id(value) for name, value in native.named_parameters(remove_duplicate=False) if name in state}
    # A fixed table of positions is made by the constructor.
    own = [(name, value) for name, value in native.named_parameters() if value.requires_grad]
    left = [name for name, value in own if id(value) not in given and name in missing]
    return "" if not left and not unknown else f"no weight fits {(left or unknown)[0]}"


def _gradients(
    drawn: nn.Module,
    native: nn.Module,
    candidate: Candidate,
    call: tuple[Mapping[str, Tensor], Tensor | None],
    call_native: Callable[[nn.Module, Mapping[str, Tensor]], Tensor],
) -> str:
    """Return which parameter gets another gradient through the candidate, empty if none does."""
    tensors, compared = call
    drawn.requires_grad_(True)
    parameters = {name: value for name, value in drawn.named_parameters() if value.is_floating_point()}
    logits = drawn(**tensors)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).to(logits.dtype)
    if compared is not None and logits.shape[: compared.ndim] == compared.shape:
        weight = weight * compared[..., None]
    expected = torch.autograd.grad((logits * weight).sum(), list(parameters.values()), allow_unused=True)
    wrapper = _Logits(native, call_native, tensors)
    mapped = mapped_state(native, candidate, parameters)
    # A tied weight has several names and is given once.
    given: dict[int, str] = {}
    for name in mapped:
        given.setdefault(id(native.get_parameter(name)), name)
    state = {f"native.{name}": mapped[name] for name in given.values()}
    found = torch.autograd.grad(
        (torch.func.functional_call(wrapper, state, ()) * weight).sum(), list(parameters.values()), allow_unused=True
    )
    drawn.requires_grad_(False)
    for name, left, right in zip(parameters, expected, found, strict=True):
        left, right = (torch.zeros_like(parameters[name]) if item is None else item for item in (left, right))
        largest = float(left.abs().max())
        if float((left - right).abs().max()) > _TOLERANCE * max(largest, 1e-2):
            return f"the gradient of {name} differs"
    return ""


class _Logits(nn.Module):
    """The model behind a forward without arguments, for ``functional_call``."""

    def __init__(self, native: nn.Module, call: Any, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.native, self.call, self.tensors = native, call, tensors

    def forward(self) -> Tensor:
        """Return the logits of the kept call."""
        logits: Tensor = self.call(self.native, self.tensors)
        return logits
