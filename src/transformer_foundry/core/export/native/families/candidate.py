"""A proposed architecture, and the traits of a description that the families ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.export.native.description import (
    Affine,
    AttentionPart,
    Description,
    Expr,
    FeedForwardPart,
    NormPart,
    Stream,
    Sublayer,
)

__all__ = [
    "HEAD",
    "Candidate",
    "Needs",
    "Sizes",
    "Traits",
    "affine_state",
    "common_config",
    "head_state",
    "norm_state",
    "ones",
    "stacked",
    "transposed",
    "zeros",
]


HEAD = "<head>"
"""Stands in names for the layer that makes the logits: versions of transformers call it differently."""


@dataclass(frozen=True)
class Candidate:
    """A model of transformers that may equal the drawn one.

    Attributes:
        name: Name of the family in messages.
        architecture: Class of transformers.
        model_type: Type of its configuration.
        config: Values of the configuration.
        state: Name in the class's ``state_dict`` -> value, without names that are tied to another.
    """

    name: str
    architecture: str
    model_type: str
    config: Mapping[str, Any]
    state: Mapping[str, Expr]


@dataclass(frozen=True)
class Sizes:
    """What a configuration needs besides the description.

    Attributes:
        max_length: Greatest length, None without one.
        dropout: Rate of the drawn model's dropout.
        token_ids: ``pad_token_id``, ``bos_token_id``, ``eos_token_id``, ``decoder_start_token_id`` where known.
        num_labels: Number of classes of a classifier, None for a language model.
    """

    max_length: int | None
    dropout: float
    token_ids: Mapping[str, int]
    num_labels: int | None = None


@dataclass
class Needs:
    """What a description lacks for a family.

    Attributes:
        name: The family.
        lacks: What would have to be so, as clauses that follow "if".
    """

    name: str
    lacks: list[str] = field(default_factory=list)

    def need(self, holds: bool, clause: str) -> None:
        """Note ``clause`` unless it ``holds``."""
        if not holds and clause not in self.lacks:
            self.lacks.append(clause)

    def __str__(self) -> str:
        article = "an" if self.name[0] in "AEIO" else "a"
        return f"would be {article} {self.name} if {' and '.join(self.lacks)}"


class Traits:
    """What all blocks of a stream have in common."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.blocks = stream.sublayers
        self.attentions = [item.part for item in self.blocks if isinstance(item.part, AttentionPart)]
        self.feed_forwards = [item.part for item in self.blocks if isinstance(item.part, FeedForwardPart)]
        self.self_attentions = [
            item.part for item in self.blocks if isinstance(item.part, AttentionPart) and not item.is_cross
        ]
        self.norms: list[NormPart] = [
            item
            for item in (stream.embedding_norm, stream.final_norm, *(block.norm for block in self.blocks))
            if item is not None
        ]

    @property
    def first(self) -> AttentionPart:
        """The first attention."""
        return self.attentions[0]

    @property
    def layer_count(self) -> int:
        """Number of blocks."""
        return len(self.feed_forwards)

    def order(self, *kinds: str) -> bool:
        """Return whether every block has these sublayers: ``self``, ``cross``, ``ff``."""
        found = [_kind(item) for item in self.blocks]
        return len(found) % len(kinds) == 0 and found == list(kinds) * (len(found) // len(kinds))

    @property
    def is_pre(self) -> bool:
        """Whether every sublayer reads the normalized stream and adds to the stream itself."""
        return all(item.norm is not None and not item.is_post and not item.is_parallel for item in self.blocks)

    @property
    def is_post(self) -> bool:
        """Whether the stream is normalized after each sublayer."""
        after = [item.is_post or item.norm is None for item in self.blocks]
        return all(after) and not any(item.is_parallel for item in self.blocks) and self.blocks[-1].is_post

    def norm_kind(self, kind: str) -> bool:
        """Return whether all normalizations are of one kind."""
        return all(norm.kind == kind for norm in self.norms)

    @property
    def has_norm_bias(self) -> bool:
        """Whether a normalization has a bias."""
        return any(norm.bias is not None for norm in self.norms)

    @property
    def eps(self) -> float | None:
        """The epsilon of all normalizations, None if they differ."""
        values = {norm.eps for norm in self.norms}
        return values.pop() if len(values) == 1 else None

    @property
    def activation(self) -> str | None:
        """The activation of all feed-forward networks, None if they differ."""
        names = {item.activation for item in self.feed_forwards}
        return names.pop() if len(names) == 1 else None

    @property
    def is_gated(self) -> bool:
        """Whether all feed-forward networks have a gate."""
        return all(item.gate is not None for item in self.feed_forwards)

    @property
    def inner_size(self) -> int:
        """Features within the feed-forward networks."""
        return self.feed_forwards[0].size

    @property
    def is_uniform(self) -> bool:
        """Whether all blocks have the same sizes and options."""
        kinds = {
            (item.heads, item.kv_heads, item.head_size, item.rotary, item.q_norm is None) for item in self.attentions
        }
        return len(kinds) == 1 and len({item.size for item in self.feed_forwards}) == 1

    @property
    def norms_after(self) -> list[NormPart | None]:
        """The normalization after each sublayer, of blocks that have it there."""
        return [*(block.norm for block in self.blocks[1:]), self.stream.final_norm]

    def has_bias(self, names: Iterable[str]) -> bool:
        """Return whether one of the layers has a bias: ``q``, ``k``, ``v``, ``out``, ``up``, ``down``, ``gate``."""
        layers = [getattr(part, name, None) for part in (*self.attentions, *self.feed_forwards) for name in names]
        return any(isinstance(layer, Affine) and layer.bias is not None for layer in layers)


def _kind(item: Sublayer) -> str:
    if isinstance(item.part, FeedForwardPart):
        return "ff"
    return "cross" if item.is_cross else "self"


def zeros(*size: int) -> Expr:
    """Return an expression of zeros."""
    return lambda parameters: next(iter(parameters.values())).new_zeros(size)


def ones(*size: int) -> Expr:
    """Return an expression of ones."""
    return lambda parameters: next(iter(parameters.values())).new_ones(size)


def transposed(expression: Expr) -> Expr:
    """Return the expression of a transposed matrix."""
    return lambda parameters: expression(parameters).t()


def stacked(parts: Iterable[Expr]) -> Expr:
    """Return the expression of tensors one after another along the first dimension."""
    items = list(parts)

    def joined(parameters: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([item(parameters) for item in items])

    return joined


def affine_state(name: str, affine: Affine, size: int | None = None) -> dict[str, Expr]:
    """Return weight and bias of a linear layer; with ``size``, zeros stand for a bias that it does not have."""
    state = {f"{name}.weight": affine.weight}
    if affine.bias is not None:
        state[f"{name}.bias"] = affine.bias
    elif size is not None:
        state[f"{name}.bias"] = zeros(size)
    return state


def norm_state(name: str, norm: NormPart, width: int, bias: bool = True) -> dict[str, Expr]:
    """Return scale and, with ``bias``, shift of a normalization; ones and zeros stand for those it does not have."""
    state = {f"{name}.weight": norm.weight or ones(width)}
    return state | ({f"{name}.bias": norm.bias or zeros(width)} if bias else {})


def common_config(found: Description, sizes: Sizes) -> dict[str, Any]:
    """Return what every configuration has: vocabulary, tied head, special tokens."""
    return {
        "vocab_size": found.stream.vocab_size,
        "tie_word_embeddings": found.is_tied,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
        **sizes.token_ids,
    }


def head_state(found: Description) -> dict[str, Expr]:
    """Return the weights of the head, none if it is tied to the token embedding."""
    return {} if found.is_tied else affine_state(HEAD, found.head)
