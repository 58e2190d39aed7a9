"""The model under test: how it is called, with which tokens, under which weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.drawn_graph import Graph
from transformer_foundry.core.checks.probing.location import Locator
from transformer_foundry.core.checks.probing.source_map import SourceMap
from transformer_foundry.core.checks.probing.trace import Trace, run_traced
from transformer_foundry.core.models import config_hints
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.inference.infer_contract import Contract

__all__ = ["Inputs", "ModelUnderTest", "declared_length", "generic_weights", "loss_of_random_labels"]

# Lengths that differ from usual head counts, batch sizes and expert counts, so that axes can be told apart.
PROBE_LENGTH = 13
SOURCE_LENGTH = 11
SHORTEST_PROBE = 4


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
        """The ids whose positions the logits belong to: the decoder's, else the input's."""
        return self.ids if self.decoder_ids is None else self.decoder_ids

    def with_target(self, ids: Tensor) -> Inputs:
        """Return the same inputs with other ids at the positions of the logits."""
        return replace(self, ids=ids) if self.decoder_ids is None else replace(self, decoder_ids=ids)

    def rows(self, index: Any) -> Inputs:
        """Return the samples of the batch that ``index`` picks."""
        parts = (self.ids, self.mask, self.decoder_ids)
        return Inputs(*(part[index] if part is not None else None for part in parts))  # type: ignore[arg-type]


@dataclass
class ModelUnderTest:
    """A model with everything the checks ask about it.

    Attributes:
        adapter: The model behind the one call that all models share.
        config: ``config.json``.
        source: Source of the model's classes.
        graph: Drawn graph of the configuration, empty when it has none.
        rebuild: Builds the model again from a seed; None for a module that came already built.
        evidence: What checks measured and the figure shows.
        stated_kind: Kind that the user or the configuration states; None when neither does.
        equal_lengths: Whether an encoder-decoder runs only when source and target are of one length.
        runs: Whether the model runs on the probes at all.
        longest: Longest sequence, where it is found to be shorter than the configuration says with good reason.
        mixes_samples: Whether the samples of a batch influence each other.
    """

    adapter: Adapter
    config: Mapping[str, Any]
    source: SourceMap
    graph: Graph
    rebuild: Callable[[int], nn.Module] | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    stated_kind: str | None = None
    equal_lengths: bool = False
    runs: bool = True
    longest: int | None = None
    mixes_samples: bool = False

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self.adapter.model

    @property
    def contract(self) -> Contract:
        """What is known about how the model is called."""
        return self.adapter.contract

    @property
    def kind(self) -> str:
        """``decoder-only``, ``encoder-only`` or ``encoder-decoder``."""
        return self.contract.kind

    @property
    def takes_decoder_ids(self) -> bool:
        """Whether a call needs a source and a target; classifiers may make the target from the source."""
        return self.contract.decoder_ids_argument is not None

    @property
    def is_causal(self) -> bool:
        """Whether a position of the output must not see later tokens."""
        return self.contract.task in ("causal_lm", "seq2seq_lm")

    @property
    def labels_positions(self) -> bool:
        """Whether the logits are one row per position: (B, T, V), not (B, C)."""
        return self.contract.task != "sequence_classification"

    @cached_property
    def locator(self) -> Locator:
        """Where modules and lines are."""
        return Locator(self.model, self.source, self.graph)

    @cached_property
    def ordinary_ids(self) -> Tensor:
        """Token ids without a special meaning, (N,) int64: what probes are made of."""
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
        """Length of the probes: short, and not above what the model takes."""
        limit = self.contract.max_length or PROBE_LENGTH
        return max(1, min(PROBE_LENGTH, limit))

    @property
    def lengths(self) -> set[int]:
        """Lengths of source and target in probes."""
        inputs = self.inputs()
        return {inputs.ids.shape[1], inputs.target.shape[1]}

    @cached_property
    def trace(self) -> Trace:
        """What runs in one forward pass of the probe inputs, under generic weights."""
        with generic_weights(self.model):
            return run_traced(self.model, self.source, lambda: self.logits(self.inputs()))

    def tokens(self, batch: int, length: int, seed: int = 0) -> Tensor:
        """Return (batch, length) int64 ordinary ids, different within a sample as far as the vocabulary allows."""
        generator = torch.Generator().manual_seed(1000 + seed)
        pool = self.ordinary_ids
        rounds = math.ceil(length / len(pool))
        rows = [
            torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)])[:length]
            for _ in range(batch)
        ]
        return torch.stack(rows)

    def inputs(self, batch: int = 1, length: int | None = None, seed: int = 0, source: int | None = None) -> Inputs:
        """Return probe inputs: ``length`` is that of the logits, ``source`` that of an encoder-decoder's source."""
        length = length or self.length
        if not self.takes_decoder_ids:
            return Inputs(self.contract.ended(self.tokens(batch, length, seed)))
        if self.equal_lengths:
            source = length
        source = source or min(SOURCE_LENGTH, length if length < SHORTEST_PROBE else self.length)
        return Inputs(
            self.contract.ended(self.tokens(batch, source, seed + 500)), None, self.tokens(batch, length, seed)
        )

    def call(self, inputs: Inputs) -> Tensor:
        """Return the logits as float32, with whatever gradient mode and training mode is set."""
        logits = self.adapter(inputs.ids, inputs.mask, inputs.decoder_ids)
        return logits.float()

    def logits(self, inputs: Inputs, *, seed: int = 0, training: bool = False) -> Tensor:
        """Return the logits without gradients; the global random state is set to ``seed`` and restored.

        Args:
            inputs: The tensors of the call.
            seed: What dropout and other randomness start from.
            training: Whether the model runs in training mode.
        """
        was_training = self.model.training
        self.model.train(training)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return self.call(inputs).detach().clone()
        finally:
            self.model.train(was_training)


@contextmanager
def generic_weights(model: nn.Module, seed: int = 0, scale: float = 1.0) -> Iterator[None]:
    """Give the parameters generic values for a while: what depends on what is then a matter of wiring alone.

    Weights as they were initialised can hide a path (a gate that starts at zero) or open one by a hair only
    (standard deviation 0.02). Matrices become N(0, ``scale``^2 / fan-in), everything else gets noise of 0.1 on top.
    Rows of a padding index stay zero, frozen parameters (tables of sines) as they are. Parameters are restored to the
    bit.
    """
    saved = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    generator = torch.Generator().manual_seed(4321 + seed)
    try:
        with torch.no_grad():
            for module in model.modules():
                for name, parameter in module.named_parameters(recurse=False):
                    if parameter.is_floating_point() and parameter.requires_grad and parameter.numel():
                        _make_generic(module, name, parameter, generator, scale)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in saved:
                parameter.copy_(value)


def _make_generic(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator, scale: float) -> None:
    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
    if isinstance(module, nn.Embedding) and name == "weight":
        parameter.copy_(noise)
        if module.padding_idx is not None:
            parameter[module.padding_idx].zero_()
    elif parameter.ndim == 2 and min(parameter.shape) > 1:
        parameter.copy_(noise * scale / math.sqrt(min(parameter.shape)))
    else:
        parameter.add_(0.1 * noise)


def _is_token_id(key: str) -> bool:
    return key.endswith(("_token_id", "_id", "_idx"))


def loss_of_random_labels(subject: ModelUnderTest, inputs: Inputs, seed: int = 0) -> Tensor:
    """Return the mean cross-entropy of the logits with random labels, in nats: every class pulls at every weight."""
    logits = subject.call(inputs)
    generator = torch.Generator().manual_seed(seed)
    flat = logits.reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, torch.randint(logits.shape[-1], (len(flat),), generator=generator))


UNSTATED_LENGTH = 64


def declared_length(subject: ModelUnderTest) -> int:
    """Return the longest sequence that the configuration or the tables of the model promise."""
    return (
        subject.longest
        or config_hints.max_length_hint(subject.config)
        or subject.contract.max_length
        or UNSTATED_LENGTH
    )
