"""Encoder-decoders with LayerNorm: BART, mBART, Blenderbot, Pegasus, Marian, which share the names of their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformer_foundry.core.export.native.description import AttentionPart, Description, Expr, Stream
from transformer_foundry.core.export.native.families.candidate import (
    HEAD,
    Candidate,
    Needs,
    Sizes,
    Traits,
    affine_state,
    common_config,
    norm_state,
    stacked,
    zeros,
)

__all__ = ["bart", "blenderbot", "marian", "mbart", "pegasus"]

_EPS = 1e-5
_UNLIMITED = 1024


@dataclass(frozen=True)
class _Kind:
    """What tells one of these architectures from the others.

    Attributes:
        name: Name in messages.
        architecture: Class of transformers.
        model_type: Type of its configuration.
        is_pre: Whether norms come before each part, and one more at the end.
        normalizes: Whether the embeddings are normalized.
        learned: Whether positions are learned; a fixed table of sines and cosines otherwise.
        unused: Rows of the table of positions before the first that is used.
    """

    name: str
    architecture: str
    model_type: str
    is_pre: bool
    normalizes: bool
    learned: bool = True
    unused: int = 0


def bart(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a BART, or what it lacks."""
    return _propose(
        _Kind("BART", "BartForConditionalGeneration", "bart", is_pre=False, normalizes=True, unused=2), found, sizes
    )


def mbart(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as an mBART, or what it lacks."""
    return _propose(
        _Kind("mBART", "MBartForConditionalGeneration", "mbart", is_pre=True, normalizes=True, unused=2), found, sizes
    )


def blenderbot(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a Blenderbot, or what it lacks."""
    return _propose(
        _Kind("Blenderbot", "BlenderbotForConditionalGeneration", "blenderbot", is_pre=True, normalizes=False),
        found,
        sizes,
    )


def pegasus(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a Pegasus, or what it lacks."""
    return _propose(
        _Kind("Pegasus", "PegasusForConditionalGeneration", "pegasus", is_pre=True, normalizes=False, learned=False),
        found,
        sizes,
    )


def marian(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a Marian, or what it lacks."""
    return _propose(
        _Kind("Marian", "MarianMTModel", "marian", is_pre=False, normalizes=False, learned=False), found, sizes
    )


def _propose(kind: _Kind, found: Description, sizes: Sizes) -> Candidate | Needs:
    needs, encoder, decoder = Needs(kind.name), found.encoder, found.stream
    if encoder is None:
        needs.need(False, "it had an encoder and a decoder")
        return needs
    for stream, order in ((encoder, ("self", "ff")), (decoder, ("self", "cross", "ff"))):
        _need_stream(needs, kind, stream, order)
    traits = Traits(encoder), Traits(decoder)
    needs.need(not any(part.is_causal for part in traits[0].attentions), "its encoder saw all tokens")
    needs.need(all(part.is_causal for part in traits[1].self_attentions), "its decoder were causal")
    needs.need(encoder.token_parameter == decoder.token_parameter, "encoder and decoder had one embedding")
    needs.need(encoder.token_scale == decoder.token_scale, "both embeddings were scaled alike")
    needs.need(found.is_tied and found.head_scale == 1, "its head were the token embedding")
    needs.need(found.head.bias is None and found.transform is None, "its head were one layer without bias")
    needs.need(traits[0].activation == traits[1].activation, "encoder and decoder had the same activation")
    root = math.sqrt(decoder.width)
    needs.need(
        abs(decoder.token_scale - 1) < 1e-6 or abs(decoder.token_scale / root - 1) < 1e-5,
        "its token embedding were not scaled, or by the root of its width",
    )
    if needs.lacks:
        return needs
    config = common_config(found, sizes) | {
        "d_model": decoder.width,
        "encoder_layers": traits[0].layer_count,
        "decoder_layers": traits[1].layer_count,
        "encoder_attention_heads": traits[0].first.heads,
        "decoder_attention_heads": traits[1].first.heads,
        "encoder_ffn_dim": traits[0].inner_size,
        "decoder_ffn_dim": traits[1].inner_size,
        "activation_function": traits[0].activation,
        "scale_embedding": decoder.token_scale != 1,
        "max_position_embeddings": _position_count(kind, found, sizes),
        "dropout": sizes.dropout,
        "forced_eos_token_id": None,
    }
    state: dict[str, Expr] = {"model.shared.weight": decoder.tokens}
    for name, item in (("encoder", traits[0]), ("decoder", traits[1])):
        state |= _stream_state(kind, f"model.{name}.", item, config["max_position_embeddings"])
    return Candidate(kind.name, kind.architecture, kind.model_type, config, state | {f"{HEAD}.weight": decoder.tokens})


def _need_stream(needs: Needs, kind: _Kind, stream: Stream, order: tuple[str, ...]) -> None:
    traits = Traits(stream)
    needs.need(traits.order(*order), "its parts came in the usual order")
    if kind.is_pre:
        needs.need(traits.is_pre and stream.final_norm is not None, "its norms came before each part and at the end")
    else:
        needs.need(traits.is_post, "its norms came after each part")
        needs.need(not stream.is_normalized_twice, "it had no further norm at the end")
    needs.need(
        (stream.embedding_norm is not None) == kind.normalizes,
        f"its embeddings were {'' if kind.normalizes else 'not '}normalized",
    )
    needs.need(traits.norm_kind("layer"), "its norms were LayerNorm")
    needs.need(traits.eps == _EPS, f"the epsilon of its norms were {_EPS}")
    if kind.learned:
        needs.need(stream.positions is not None, "it had learned positions")
    else:
        needs.need(stream.fixed_positions is not None, "its positions were fixed waves")
    needs.need(traits.is_uniform and traits.activation is not None, "all its blocks were alike")
    needs.need(not any(part.gate for part in traits.feed_forwards), "its feed-forward network had no gate")
    first = traits.first
    needs.need(first.rotary is None and first.q_norm is None, "its queries were neither rotated nor normalized")
    needs.need(first.kv_heads * first.head_size == stream.width, "its heads were as wide as the stream")
    needs.need(all(part.bias is None for part in traits.attentions), "nothing were added to its attention scores")


def _position_count(kind: _Kind, found: Description, sizes: Sizes) -> int:
    if not kind.learned or found.encoder is None:
        return sizes.max_length or _UNLIMITED
    return min(found.encoder.position_count, found.stream.position_count)


def _stream_state(kind: _Kind, name: str, traits: Traits, positions: int) -> dict[str, Expr]:
    stream, width = traits.stream, traits.stream.width
    state: dict[str, Expr] = {f"{name}embed_tokens.weight": stream.tokens}
    if kind.learned and (learned := stream.positions) is not None:
        kept: Expr = lambda parameters: learned(parameters)[:positions]  # noqa: E731
        state[f"{name}embed_positions.weight"] = stacked([zeros(kind.unused, width), kept])
    if stream.embedding_norm is not None and kind.normalizes:
        state |= norm_state(f"{name}layernorm_embedding", stream.embedding_norm, width)
    if kind.is_pre and stream.final_norm is not None:
        state |= norm_state(f"{name}layer_norm", stream.final_norm, width)
    norms = [item.norm for item in traits.blocks] if kind.is_pre else traits.norms_after
    parts = len(traits.blocks) // traits.layer_count
    for number, (item, norm) in enumerate(zip(traits.blocks, norms, strict=True)):
        layer, part = f"{name}layers.{number // parts}.", item.part
        assert norm is not None
        if isinstance(part, AttentionPart):
            place = f"{layer}{'encoder_attn' if item.is_cross else 'self_attn'}"
            for short, affine in (("q", part.q), ("k", part.k), ("v", part.v), ("out", part.out)):
                state |= affine_state(f"{place}.{short}_proj", affine, width)
            state |= norm_state(f"{place}_layer_norm", norm, width)
        else:
            state |= affine_state(f"{layer}fc1", part.up, part.size) | affine_state(f"{layer}fc2", part.down, width)
            state |= norm_state(f"{layer}final_layer_norm", norm, width)
    return state
