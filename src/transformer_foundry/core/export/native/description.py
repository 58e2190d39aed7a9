"""What a recognized model consists of: weights as functions of the drawn model's parameters, and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Affine", "AttentionPart", "Description", "Expr", "FeedForwardPart", "NormPart", "Rotary", "Stream",
           "Sublayer", "Unlike"]  # fmt: skip

Expr = Callable[[Mapping[str, Tensor]], Tensor]
"""Computes a tensor from the parameters of the drawn model, by name; autograd can follow it."""


class Unlike(Exception):
    """Raised where a model differs from all known architectures; the message says how, as a clause."""


@dataclass(frozen=True)
class Affine:
    """A linear layer.

    Attributes:
        weight: (out, in).
        bias: (out,), None without one.
    """

    weight: Expr
    bias: Expr | None


@dataclass(frozen=True)
class NormPart:
    """A normalization over the features.

    Attributes:
        kind: ``layer`` or ``rms``.
        weight: Scale, None without one.
        bias: Shift, None without one.
        eps: Epsilon.
    """

    kind: str
    weight: Expr | None
    bias: Expr | None
    eps: float


@dataclass(frozen=True)
class Rotary:
    """Rotation of queries and keys by positions, in the convention of halves.

    Attributes:
        size: How many of the first features of a head are rotated.
        theta: Base of the frequencies.
    """

    size: int
    theta: float


@dataclass(frozen=True)
class AttentionPart:
    """Attention with its four linear layers; heads are contiguous in their features, scores are divided by sqrt(d).

    Attributes:
        q: From the input to (H * d).
        k: From the input, or the memory, to (KV * d).
        v: The same for values.
        out: From (H * d) to the width.
        heads: Number of query heads, H.
        kv_heads: Number of key heads.
        head_size: Features of a head.
        is_causal: Whether a query sees no later key.
        rotary: Rotation by positions.
        q_norm: Normalization of each query head.
        k_norm: The same for keys.
        bias: (H, T, S) that is added to the scores.
    """

    q: Affine
    k: Affine
    v: Affine
    out: Affine
    heads: int
    kv_heads: int
    head_size: int
    is_causal: bool
    rotary: Rotary | None = None
    q_norm: NormPart | None = None
    k_norm: NormPart | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class FeedForwardPart:
    """Two linear layers around an activation, or three with a gate: ``down(act(gate) * up)``."""

    up: Affine
    down: Affine
    activation: str
    size: int
    gate: Affine | None = None


@dataclass(frozen=True)
class Sublayer:
    """A part between two additions to the residual stream.

    Attributes:
        part: Attention or feed-forward network.
        norm: Normalization before it.
        is_post: Whether the normalized stream, and not the stream before the normalization, is added to.
        is_parallel: Whether it reads the same stream as the sublayer before it.
        shares_norm: Whether it reads the same normalized stream as the sublayer before it.
        is_cross: Whether keys and values come from the encoder.
    """

    part: AttentionPart | FeedForwardPart
    norm: NormPart | None
    is_post: bool = False
    is_parallel: bool = False
    shares_norm: bool = False
    is_cross: bool = False


@dataclass(frozen=True)
class Stream:
    """Embedding, blocks and last normalization of a decoder or an encoder.

    Attributes:
        tokens: (V, D) token embedding.
        token_parameter: The name of its parameter.
        token_scale: Factor of the token embedding.
        positions: (N, D) learned positions, from the first one that is used.
        fixed_positions: (T, D) positions that are not learned, as far as the pass was long.
        position_count: How many learned positions there are.
        embedding_norm: Normalization of the embeddings.
        sublayers: The blocks.
        final_norm: Normalization of the last state.
        is_normalized_twice: Whether another normalization follows it.
        width: D.
        vocab_size: V.
    """

    tokens: Expr
    token_parameter: str
    token_scale: float
    width: int
    vocab_size: int
    sublayers: list[Sublayer]
    positions: Expr | None = None
    fixed_positions: Tensor | None = None
    position_count: int = 0
    embedding_norm: NormPart | None = None
    final_norm: NormPart | None = None
    is_normalized_twice: bool = False


@dataclass(frozen=True)
class Description:
    """A whole model.

    Attributes:
        stream: The decoder, or the encoder of an encoder-only model.
        encoder: The encoder of an encoder-decoder.
        head: From the width to the logits.
        is_tied: Whether the head's weight is the token embedding.
        transform: Linear layer before the head.
        transform_activation: Its activation.
        transform_norm: Its normalization.
        head_scale: Factor of the last state before the head.
        parameters: The parameters of the recorded pass, by name.
    """

    stream: Stream
    head: Affine
    is_tied: bool
    encoder: Stream | None = None
    transform: Affine | None = None
    transform_activation: str = ""
    transform_norm: NormPart | None = None
    head_scale: float = 1.0
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
