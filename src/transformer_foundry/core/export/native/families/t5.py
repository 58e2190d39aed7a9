"""T5: an encoder-decoder with RMSNorm, no biases, and a learned bias for distances between tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.export.native.description import (
    AttentionPart,
    Description,
    Expr,
    FeedForwardPart,
    Stream,
)
from transformer_foundry.core.export.native.families.candidate import (
    HEAD,
    Candidate,
    Needs,
    Sizes,
    Traits,
    common_config,
    norm_state,
)
from transformer_foundry.core.export.native.parts import same
from transformer_foundry.core.export.native.weights import scaled

__all__ = ["t5"]

_MAX_DISTANCES = (128, 64, 32, 20, 256)
_LAYERS = ("q", "k", "v", "out", "up", "down", "gate")
_ACTIVATIONS = {(True, "gelu_new"): "gated-gelu", (True, "silu"): "gated-silu", (True, "relu"): "gated-relu"}


def t5(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a T5, or what it lacks."""
    needs, encoder, decoder = Needs("T5"), found.encoder, found.stream
    if encoder is None:
        needs.need(False, "it had an encoder and a decoder")
        return needs
    tables = []
    for stream, order in ((encoder, ("self", "ff")), (decoder, ("self", "cross", "ff"))):
        tables.append(_need_stream(needs, found.parameters, stream, order, is_encoder=stream is encoder))
    traits = Traits(encoder), Traits(decoder)
    first, kind = traits[1].first, (traits[1].is_gated, str(traits[1].activation))
    needs.need(not any(part.is_causal for part in traits[0].attentions), "its encoder saw all tokens")
    needs.need(all(part.is_causal for part in traits[1].self_attentions), "its decoder were causal")
    needs.need(encoder.token_parameter == decoder.token_parameter, "encoder and decoder had one embedding")
    needs.need(not kind[0] or kind in _ACTIVATIONS, "its gate had the tanh form of GELU, SiLU or ReLU")
    needs.need(found.head.bias is None and found.transform is None, "its head were one layer without bias")
    needs.need(
        not found.is_tied or abs(found.head_scale / decoder.width**-0.5 - 1) < 1e-5,
        "its last state were divided by the root of its width before the tied head",
    )
    same_kind = {(item.activation, item.eps, item.inner_size, item.first.heads) for item in traits}
    needs.need(len(same_kind) == 1, "encoder and decoder had the same sizes and options")
    if needs.lacks or any(table is None for table in tables):
        return needs
    (name, distance), (other, _) = (table for table in tables if table is not None)
    config = common_config(found, sizes) | {
        "d_model": decoder.width,
        "d_kv": first.head_size,
        "d_ff": traits[1].inner_size,
        "num_layers": traits[0].layer_count,
        "num_decoder_layers": traits[1].layer_count,
        "num_heads": first.heads,
        "relative_attention_num_buckets": found.parameters[name].shape[0],
        "relative_attention_max_distance": distance,
        "layer_norm_epsilon": traits[1].eps,
        "feed_forward_proj": _ACTIVATIONS.get(kind, kind[1]),
        "dropout_rate": sizes.dropout,
    }
    state: dict[str, Expr] = {"shared.weight": decoder.tokens}
    for place, item, table in (("encoder", traits[0], name), ("decoder", traits[1], other)):
        state |= _stream_state(f"{place}.", item, table)
    head = found.head.weight if found.is_tied else scaled(found.head.weight, found.head_scale)
    return Candidate("T5", "T5ForConditionalGeneration", "t5", config, state | {f"{HEAD}.weight": head})


def _need_stream(
    needs: Needs, parameters: Mapping[str, Tensor], stream: Stream, order: tuple[str, ...], *, is_encoder: bool
) -> tuple[str, int] | None:
    """Note what a stream lacks; return the parameter of its distances, and the greatest distance."""
    traits = Traits(stream)
    needs.need(traits.order(*order), "its parts came in the usual order")
    needs.need(traits.is_pre and stream.final_norm is not None, "its norms came before each part and at the end")
    needs.need(traits.norm_kind("rms") and not traits.has_norm_bias, "its norms were RMSNorm without bias")
    needs.need(traits.eps is not None, "all its norms had the same epsilon")
    needs.need(not traits.has_bias(_LAYERS), "its layers had no biases")
    needs.need(stream.positions is None and stream.fixed_positions is None, "it added no positions to the embeddings")
    needs.need(stream.embedding_norm is None and stream.token_scale == 1, "its embeddings went in as they are")
    needs.need(traits.is_uniform and traits.activation is not None, "all its blocks were alike")
    needs.need(
        traits.first.rotary is None and traits.first.q_norm is None, "its queries were neither rotated nor normalized"
    )
    biases = [part.bias for part in traits.self_attentions]
    crossed = [part.bias for part in traits.attentions if part not in traits.self_attentions]
    shared = biases[0] is not None and all(item is not None and same(item, biases[0]) for item in biases)
    needs.need(shared and not any(item is not None for item in crossed), "all its blocks shared a bias for distances")
    if not shared or biases[0] is None:
        return None
    table = _distances(parameters, biases[0], is_encoder)
    needs.need(table is not None, "its distances were in the buckets of T5")
    return table


def _distances(parameters: Mapping[str, Tensor], bias: Tensor, is_encoder: bool) -> tuple[str, int] | None:
    """Return the (N, H) parameter whose rows, by bucket of distance, are added to the scores."""
    from transformers.models.t5.modeling_t5 import T5Attention

    length = bias.shape[-1]
    steps = torch.arange(length)[None] - torch.arange(length)[:, None]
    seen = torch.ones_like(steps, dtype=torch.bool) if is_encoder else steps <= 0
    for name, tensor in parameters.items():
        if tensor.ndim != 2 or tensor.shape[1] != bias.shape[0] or tensor.shape[0] < 4:
            continue
        for distance in _MAX_DISTANCES:
            buckets = T5Attention._relative_position_bucket(
                steps, bidirectional=is_encoder, num_buckets=tensor.shape[0], max_distance=distance
            )
            if same(tensor[buckets].permute(2, 0, 1)[:, seen].to(bias.dtype), bias[:, seen]):
                return name, distance
    return None


def _stream_state(name: str, traits: Traits, table: str) -> dict[str, Expr]:
    stream, width = traits.stream, traits.stream.width
    parts = len(traits.blocks) // traits.layer_count
    distances: Expr = lambda parameters: parameters[table]  # noqa: E731
    state: dict[str, Any] = {
        f"{name}embed_tokens.weight": stream.tokens,
        f"{name}block.0.layer.0.SelfAttention.relative_attention_bias.weight": distances,
    }
    for number, item in enumerate(traits.blocks):
        layer, part = f"{name}block.{number // parts}.layer.{number % parts}.", item.part
        assert item.norm is not None
        state |= norm_state(f"{layer}layer_norm", item.norm, width, bias=False)
        if isinstance(part, AttentionPart):
            place = f"{layer}{'EncDecAttention' if item.is_cross else 'SelfAttention'}."
            # T5 does not scale its scores.
            state[f"{place}q.weight"] = scaled(part.q.weight, part.head_size**-0.5)
            state |= {f"{place}k.weight": part.k.weight, f"{place}v.weight": part.v.weight}
            state[f"{place}o.weight"] = part.out.weight
        else:
            state |= _network(f"{layer}DenseReluDense.", part)
    assert stream.final_norm is not None
    return state | norm_state(f"{name}final_layer_norm", stream.final_norm, width, bias=False)


def _network(name: str, part: FeedForwardPart) -> dict[str, Expr]:
    if part.gate is None:
        return {f"{name}wi.weight": part.up.weight, f"{name}wo.weight": part.down.weight}
    return {
        f"{name}wi_0.weight": part.gate.weight,
        f"{name}wi_1.weight": part.up.weight,
        f"{name}wo.weight": part.down.weight,
    }
