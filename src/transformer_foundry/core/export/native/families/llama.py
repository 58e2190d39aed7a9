"""Decoder-only architectures with RMSNorm, rotary positions and gated networks: Llama, Mistral, Qwen2, Qwen3."""

from __future__ import annotations

from typing import Any

from transformer_foundry.core.export.native.description import AttentionPart, Description, Expr
from transformer_foundry.core.export.native.families.candidate import (
    Candidate,
    Needs,
    Sizes,
    Traits,
    affine_state,
    common_config,
    head_state,
    norm_state,
)
from transformer_foundry.core.export.native.families.decoder_only import need_decoder

__all__ = ["llama", "qwen2", "qwen3"]

# Positions of a model without a limit: transformers wants a number.
_UNLIMITED = 4096
_QKV = ("q", "k", "v")


def llama(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a Llama (Mistral is one with a window), or what it lacks."""
    traits, needs = Traits(found.stream), Needs("Llama")
    _need_shape(needs, found, traits)
    needs.need(traits.first.q_norm is None and traits.first.k_norm is None, "its queries and keys were not normalized")
    if needs.lacks:
        return needs
    attention_bias, mlp_bias = traits.has_bias((*_QKV, "out")), traits.has_bias(("up", "gate", "down"))
    config = _config(found, sizes, traits) | {"attention_bias": attention_bias, "mlp_bias": mlp_bias}
    state = _state(found, traits, {"qkv": attention_bias, "out": attention_bias, "ff": mlp_bias})
    return Candidate("Llama", "LlamaForCausalLM", "llama", config, state)


def qwen2(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a Qwen2, which has biases on queries, keys and values only, or what it lacks."""
    traits, needs = Traits(found.stream), Needs("Qwen2")
    _need_shape(needs, found, traits)
    first = traits.first
    needs.need(first.q_norm is None and first.k_norm is None, "its queries and keys were not normalized")
    needs.need(traits.has_bias(_QKV), "its queries, keys and values had biases")
    needs.need(not traits.has_bias(("out", "up", "gate", "down")), "no other layer had a bias")
    needs.need(first.heads * first.head_size == found.stream.width, "its heads were as wide as the stream")
    if needs.lacks:
        return needs
    state = _state(found, traits, {"qkv": True, "out": False, "ff": False})
    return Candidate("Qwen2", "Qwen2ForCausalLM", "qwen2", _config(found, sizes, traits), state)


def qwen3(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a Qwen3, which normalizes queries and keys of each head, or what it lacks."""
    traits, needs = Traits(found.stream), Needs("Qwen3")
    _need_shape(needs, found, traits)
    norms = [norm for part in traits.attentions for norm in (part.q_norm, part.k_norm)]
    needs.need(
        all(norm is not None and norm.kind == "rms" and norm.bias is None and norm.eps == traits.eps for norm in norms),
        "each head of its queries and keys had an RMSNorm",
    )
    needs.need(not traits.has_bias(("up", "gate", "down")), "its feed-forward network had no bias")
    if needs.lacks:
        return needs
    bias = traits.has_bias((*_QKV, "out"))
    config = _config(found, sizes, traits) | {"attention_bias": bias}
    state = _state(found, traits, {"qkv": bias, "out": bias, "ff": False})
    return Candidate("Qwen3", "Qwen3ForCausalLM", "qwen3", config, state)


def _need_shape(needs: Needs, found: Description, traits: Traits) -> None:
    need_decoder(needs, found, traits)
    rotary = traits.first.rotary
    needs.need(traits.is_pre and found.stream.final_norm is not None, "its norms came before each part and at the end")
    needs.need(traits.norm_kind("rms"), "its norms were RMSNorm")
    needs.need(not traits.has_norm_bias, "its norms had no bias")
    needs.need(found.stream.positions is None, "it had no learned positions")
    needs.need(rotary is not None, "its queries were rotated by positions")
    needs.need(rotary is None or rotary.size == traits.first.head_size, "whole heads were rotated")
    needs.need(traits.is_gated, "its feed-forward network had a gate")


def _config(found: Description, sizes: Sizes, traits: Traits) -> dict[str, Any]:
    first = traits.first
    assert first.rotary is not None
    return common_config(found, sizes) | {
        "hidden_size": found.stream.width,
        "intermediate_size": traits.inner_size,
        "num_hidden_layers": traits.layer_count,
        "num_attention_heads": first.heads,
        "num_key_value_heads": first.kv_heads,
        "head_dim": first.head_size,
        "hidden_act": traits.activation,
        "max_position_embeddings": sizes.max_length or _UNLIMITED,
        "rms_norm_eps": traits.eps,
        "rope_theta": first.rotary.theta,
        "attention_dropout": sizes.dropout,
    }


def _state(found: Description, traits: Traits, biases: dict[str, bool]) -> dict[str, Expr]:
    width = found.stream.width
    state = {"model.embed_tokens.weight": found.stream.tokens}
    for number, item in enumerate(traits.blocks):
        name, part = f"model.layers.{number // 2}.", item.part
        assert item.norm is not None
        state |= norm_state(
            name + ("post_attention_layernorm" if number % 2 else "input_layernorm"), item.norm, width, bias=False
        )
        if isinstance(part, AttentionPart):
            heads, kv = part.heads * part.head_size, part.kv_heads * part.head_size
            for place, layer, size in (("q", part.q, heads), ("k", part.k, kv), ("v", part.v, kv)):
                state |= affine_state(f"{name}self_attn.{place}_proj", layer, size if biases["qkv"] else None)
            state |= affine_state(f"{name}self_attn.o_proj", part.out, width if biases["out"] else None)
            for place, norm in (("q", part.q_norm), ("k", part.k_norm)):
                if norm is not None:
                    state |= norm_state(f"{name}self_attn.{place}_norm", norm, part.head_size, bias=False)
        else:
            inner = part.size if biases["ff"] else None
            assert part.gate is not None
            state |= affine_state(f"{name}mlp.gate_proj", part.gate, inner) | affine_state(
                f"{name}mlp.up_proj", part.up, inner
            )
            state |= affine_state(f"{name}mlp.down_proj", part.down, width if biases["ff"] else None)
    assert found.stream.final_norm is not None
    return state | norm_state("model.norm", found.stream.final_norm, width, bias=False) | head_state(found)
