"""Model under test: calls, probe inputs and generic weights."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.drawn_graph import Graph
from transformer_foundry.core.checks.probing.location import Locator
from transformer_foundry.core.checks.probing.measurements import Measurements
from transformer_foundry.core.checks.probing.source_map import SourceMap
from transformer_foundry.core.checks.probing.trace import Trace, record_calls
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.side_effects import restore_weights
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["Inputs", "ModelUnderTest", "declared_length", "generic_weights", "loss_of_random_labels"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# Lengths that differ from usual head counts, batch sizes and expert counts, so that axes are unambiguous.
PROBE_LENGTH = 13
SOURCE_LENGTH = 11
SHORTEST_PROBE = 4
# Longest probe of a model that neither states nor limits its length.
UNDECLARED_LENGTH = 64


@dataclass(frozen=True)
class Inputs:
    """The tensors of one call.

    Attributes:
        ids: (B, T) int64.
        mask: (B, T) int64, 1 where a token is real; None passes no mask.
        decoder_ids: (B, S) int64 for an encoder-decoder.
    """

    ids: Tensor
    mask: Tensor | None = None
    decoder_ids: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """The ids at whose positions the logits are: the decoder's, otherwise the input's."""
        return self.ids if self.decoder_ids is None else self.decoder_ids

    def with_target(self, ids: Tensor) -> Inputs:
        """Return a copy with other ids at the positions of the logits."""
        return replace(self, ids=ids) if self.decoder_ids is None else replace(self, decoder_ids=ids)

    def rows(self, index: slice) -> Inputs:
        """Return the samples of the batch that ``index`` selects."""
        mask, decoder_ids = (None if part is None else part[index] for part in (self.mask, self.decoder_ids))
        return Inputs(self.ids[index], mask, decoder_ids)


@dataclass
class ModelUnderTest:
    """A model with everything that the checks need to know about it.

    Attributes:
        adapter: The model behind the call signature that all models share.
        config: ``config.json``.
        source: Source of the model's classes.
        graph: Drawn graph of the configuration, empty when it has none.
        rebuild: Builds the model again from a seed; None for a module that was already built.
        rebuild_with: Builds the model again with other values of the configuration, from the same seed; None likewise.
        measurements: What checks measure for the figure.
        stated_kind: Kind that the user or the configuration states; None when neither does.
        equal_lengths: Whether an encoder-decoder runs only when source and target have the same length.
        runs: Whether the model runs on ordinary inputs.
        longest: Longest sequence, if it is shorter than the configuration states for a good reason.
        mixes_samples: Whether the samples of a batch influence each other.
        is_differentiable: Whether the loss has a gradient and its backward pass runs.
        positions_reported: Whether a finding about positions exists already.
    """

    adapter: Adapter
    config: Mapping[str, Any]
    source: SourceMap
    graph: Graph
    rebuild: Callable[[int], nn.Module] | None = None
    rebuild_with: Callable[[Mapping[str, Any]], nn.Module] | None = None
    measurements: Measurements = field(default_factory=Measurements)
    stated_kind: str | None = None
    equal_lengths: bool = False
    runs: bool = True
    longest: int | None = None
    mixes_samples: bool = False
    is_differentiable: bool = True
    positions_reported: bool = False

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.adapter.model

    def submodules(self, kind: type[ModuleT]) -> list[tuple[str, ModuleT]]:
        """Return (path, module) of all modules of class ``kind``."""
        return [(path, module) for path, module in self.model.named_modules() if isinstance(module, kind)]

    @property
    def parameter_count(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def contract(self) -> Contract:
        """How the model is called and what it returns."""
        return self.adapter.contract

    @property
    def kind(self) -> str:
        """``decoder-only``, ``encoder-only`` or ``encoder-decoder``."""
        return self.contract.kind

    @property
    def takes_decoder_ids(self) -> bool:
        """Return whether a call takes a source and a target; some classifiers derive the target from the source."""
        return self.contract.decoder_ids_argument is not None

    @property
    def is_causal(self) -> bool:
        """Return whether a position of the output must not see later tokens."""
        return self.contract.task in ("causal_lm", "seq2seq_lm")

    @property
    def labels_positions(self) -> bool:
        """Return whether the logits are one row per position: (B, T, V), not (B, C)."""
        return not self.contract.scores_texts

    @cached_property
    def locator(self) -> Locator:
        """Maps modules and lines to locations."""
        return Locator(self.model, self.source, self.graph)

    @cached_property
    def ordinary_ids(self) -> Tensor:
        """Token ids without a special meaning, (N,) int64, for probe inputs."""
        contract = self.contract
        size = min(contract.vocab_size, contract.decoder_vocab_size or contract.vocab_size)
        named = {value for key, value in vars(contract).items() if key.endswith("_token_id") and isinstance(value, int)}
        named |= {value for key, value in self.config.items() if _is_token_id(key) and isinstance(value, int)}
        named |= {
            int(module.padding_idx)
            for module in self.model.modules()
            if isinstance(module, nn.Embedding) and module.padding_idx is not None
        }
        ordinary = [index for index in range(size) if index not in named]
        return torch.tensor(ordinary or list(range(size)))

    @cached_property
    def length(self) -> int:
        """Length of probe inputs: short, and at most the maximum of the model."""
        limit = self.contract.max_length or PROBE_LENGTH
        return max(1, min(PROBE_LENGTH, limit))

    @property
    def lengths(self) -> set[int]:
        """Lengths of source and target in probe inputs."""
        inputs = self.inputs()
        return {inputs.ids.shape[1], inputs.target.shape[1]}

    @cached_property
    def trace(self) -> Trace:
        """Trace of one forward pass of the probe inputs, under generic weights."""
        with generic_weights(self.model):
            return self.traced(self.inputs())

    def tokens(self, batch: int, length: int, seed: int = 0) -> Tensor:
        """Return (batch, length) int64 ordinary ids, distinct within a sample if the vocabulary is large enough."""
        generator = torch.Generator().manual_seed(1000 + seed)
        pool = self.ordinary_ids
        rounds = math.ceil(length / len(pool))
        rows = [
            torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)])[:length]
            for _ in range(batch)
        ]
        return torch.stack(rows)

    def inputs(self, batch: int = 1, length: int | None = None, seed: int = 0, source: int | None = None) -> Inputs:
        """Return probe inputs.

        Args:
            batch: Number of samples.
            length: Length of the logits.
            seed: Seed of the token ids.
            source: Length of an encoder-decoder's source.
        """
        length = length or self.length
        if not self.takes_decoder_ids:
            return Inputs(self.contract.end_with_eos(self.tokens(batch, length, seed)))
        if self.equal_lengths:
            source = length
        source = source or min(SOURCE_LENGTH, length if length < SHORTEST_PROBE else self.length)
        return Inputs(
            self.contract.end_with_eos(self.tokens(batch, source, seed + 500)), None, self.tokens(batch, length, seed)
        )

    def call(self, inputs: Inputs) -> Tensor:
        """Return the logits as float32, in the current gradient mode and training mode."""
        logits: Tensor = self.adapter(inputs.ids, inputs.mask, inputs.decoder_ids)
        return logits.float()

    def logits(self, inputs: Inputs, *, seed: int = 0, training: bool = False) -> Tensor:
        """Return the logits without gradients; the random states are set to ``seed`` and restored.

        Args:
            inputs: The tensors of the call.
            seed: Seed of dropout and other random operations, of torch, Python and NumPy.
            training: Whether the model runs in training mode.
        """
        was_training = self.model.training
        self.model.train(training)
        try:
            with torch.no_grad(), preserve_random(seed=seed):
                return self.call(inputs).detach().clone()
        finally:
            self.model.train(was_training)

    def traced(self, inputs: Inputs, *, seed: int = 0, training: bool = False) -> Trace:
        """Return the trace of one forward pass; the arguments are those of ``logits``."""
        with torch.no_grad(), record_calls(self.model, self.source) as record:
            self.logits(inputs, seed=seed, training=training)
        return record


@contextmanager
def generic_weights(model: nn.Module, seed: int = 0, scale: float = 1.0) -> Iterator[None]:
    """Give the parameters generic values in this context, so that dependence is a matter of the wiring alone.

    Initial weights can hide a path (a gate that starts at zero) or make it very weak (standard deviation 0.02).
    Matrices become N(0, ``scale``^2 / fan-in), other parameters get noise of 0.1 added. Rows of a padding index stay
    zero; frozen parameters (tables of sines) do not change. Parameters are restored bit for bit.
    """
    with restore_weights(model.parameters()):
        with torch.no_grad():
            for (module, name, parameter), noise in _noise_of(model, seed):
                _make_generic(module, name, parameter, noise, scale)
        yield


def _noise_of(model: nn.Module, seed: int) -> Iterator[tuple[tuple[nn.Module, str, Tensor], Tensor]]:
    """Yield each parameter that becomes generic, with N(0, 1) of its shape."""
    found = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.is_floating_point() and parameter.requires_grad and parameter.numel()
    ]
    # Nearly every check wants the same numbers, and drawing them takes longer than a forward pass of the probe.
    is_kept = seed == 0 and sum(parameter.numel() for _, _, parameter in found) <= _KEPT_NUMBERS
    kept = _kept_noise(model) if is_kept else []
    like = [(parameter.shape, parameter.dtype) for _, _, parameter in found]
    if kept and [(noise.shape, noise.dtype) for noise in kept] == like:
        yield from zip(found, kept, strict=True)
        return
    generator = torch.Generator().manual_seed(4321 + seed)
    drawn = []
    for place in found:
        noise = torch.randn(place[2].shape, generator=generator).to(place[2])
        if is_kept:
            drawn.append(noise)
        yield place, noise
    if is_kept:
        _last_noise[:] = [(weakref.ref(model, lambda _: _last_noise.clear()), drawn)]


def _kept_noise(model: nn.Module) -> list[Tensor]:
    return next((noise for owner, noise in _last_noise if owner() is model), [])


_KEPT_NUMBERS = 2**27
"""Largest model whose noise is kept: 0.5 GB in float32."""

_last_noise: list[tuple[weakref.ref[nn.Module], list[Tensor]]] = []
"""The noise of the model that was made generic last."""


def _make_generic(module: nn.Module, name: str, parameter: Tensor, noise: Tensor, scale: float) -> None:
    if isinstance(module, nn.Embedding) and name == "weight":
        parameter.copy_(noise)
        if module.padding_idx is not None:
            parameter[module.padding_idx].zero_()
    elif parameter.ndim == 2 and min(parameter.shape) > 1:
        torch.mul(noise, scale, out=parameter).div_(math.sqrt(min(parameter.shape)))
    else:
        parameter.add_(0.1 * noise)


def _is_token_id(key: str) -> bool:
    return key.endswith(("_token_id", "_id", "_idx"))


def loss_of_random_labels(subject: ModelUnderTest, inputs: Inputs, seed: int = 0) -> Tensor:
    """Return the mean loss of the logits with random labels, so that every weight matters.

    Cross-entropy in nats; the squared error of a model with one output.
    """
    logits = subject.call(inputs)
    generator = torch.Generator().manual_seed(seed)
    flat = logits.reshape(-1, logits.shape[-1])
    if logits.shape[-1] == 1:
        return F.mse_loss(flat, torch.randn(flat.shape, generator=generator))
    return F.cross_entropy(flat, torch.randint(logits.shape[-1], (len(flat),), generator=generator))


def declared_length(subject: ModelUnderTest) -> int:
    """Return the longest sequence that the configuration declares or the model's tables allow."""
    return (
        subject.longest
        or config_hints.max_length_hint(subject.config)
        or subject.contract.max_length
        or UNDECLARED_LENGTH
    )
