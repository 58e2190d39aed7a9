"""Decoder-only architectures with LayerNorm: GPT-2, OPT, GPT-NeoX."""

from __future__ import annotations

import torch

from transformer_foundry.core.export.native.description import Affine, AttentionPart, Description, Expr
from transformer_foundry.core.export.native.families.candidate import (
    Candidate,
    Needs,
    Sizes,
    Traits,
    affine_state,
    common_config,
    head_state,
    norm_state,
    stacked,
    transposed,
    zeros,
)
from transformer_foundry.core.export.native.families.decoder_only import need_decoder

__all__ = ["gpt2", "gpt_neox", "opt"]


# OPT has no option for it.
_OPT_EPS = 1e-5
# Positions of a model without a limit: transformers wants a number.
_UNLIMITED = 4096


def gpt2(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a GPT-2, or what it lacks."""
    stream, traits, needs = found.stream, Traits(found.stream), Needs("GPT-2")
    need_decoder(needs, found, traits)
    needs.need(traits.is_pre and stream.final_norm is not None, "its norms came before each part and at the end")
    needs.need(traits.norm_kind("layer"), "its norms were LayerNorm")
    needs.need(stream.positions is not None, "it had learned positions")
    needs.need(traits.first.rotary is None, "its queries were not rotated")
    needs.need(_is_plain(traits), "it had plain heads as wide as the stream and no gate")
    if needs.lacks:
        return needs
    config = {
        "n_positions": stream.position_count,
        "n_embd": stream.width,
        "n_layer": traits.layer_count,
        "n_head": traits.first.heads,
        "n_inner": traits.inner_size,
        "activation_function": traits.activation,
        "layer_norm_epsilon": traits.eps,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), sizes.dropout),
    }
    return Candidate(
        "GPT-2", "GPT2LMHeadModel", "gpt2", common_config(found, sizes) | config, _gpt2_state(found, traits)
    )


def _gpt2_state(found: Description, traits: Traits) -> dict[str, Expr]:
    stream, width = found.stream, found.stream.width
    assert stream.positions is not None
    assert stream.final_norm is not None
    state = {"transformer.wte.weight": stream.tokens, "transformer.wpe.weight": stream.positions}
    for number, item in enumerate(traits.blocks):
        name, is_attention = f"transformer.h.{number // 2}.", number % 2 == 0
        assert item.norm is not None
        state |= norm_state(f"{name}ln_{1 if is_attention else 2}", item.norm, width)
        if isinstance(item.part, AttentionPart):
            parts = [item.part.q, item.part.k, item.part.v]
            biases = [part.bias or zeros(width) for part in parts]
            state[f"{name}attn.c_attn.weight"] = transposed(stacked([part.weight for part in parts]))
            state[f"{name}attn.c_attn.bias"] = stacked(biases)
            layers = [("attn.c_proj", item.part.out, width)]
        else:
            layers = [("mlp.c_fc", item.part.up, item.part.size), ("mlp.c_proj", item.part.down, width)]
        for place, layer, size in layers:
            state[f"{name}{place}.weight"] = transposed(layer.weight)
            state[f"{name}{place}.bias"] = layer.bias or zeros(size)
    return state | norm_state("transformer.ln_f", stream.final_norm, width) | head_state(found)


def opt(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as an OPT, or what it lacks."""
    stream, traits, needs = found.stream, Traits(found.stream), Needs("OPT")
    need_decoder(needs, found, traits)
    is_pre = traits.is_pre
    needs.need(
        (is_pre and stream.final_norm is not None) or traits.is_post, "its norms were all before or all after each part"
    )
    needs.need(traits.norm_kind("layer"), "its norms were LayerNorm")
    # With norms before each part it is a GPT-2 as well; ReLU is what OPT is known by.
    needs.need(not is_pre or traits.activation == "relu", "its activation were ReLU")
    needs.need(traits.eps == _OPT_EPS, f"the epsilon of its norms were {_OPT_EPS}")
    needs.need(stream.positions is not None, "it had learned positions")
    needs.need(traits.first.rotary is None, "its queries were not rotated")
    needs.need(_is_plain(traits), "it had plain heads as wide as the stream and no gate")
    if needs.lacks:
        return needs
    config = {
        "max_position_embeddings": stream.position_count,
        "hidden_size": stream.width,
        "word_embed_proj_dim": stream.width,
        "num_hidden_layers": traits.layer_count,
        "num_attention_heads": traits.first.heads,
        "ffn_dim": traits.inner_size,
        "activation_function": traits.activation,
        "do_layer_norm_before": is_pre,
        "dropout": sizes.dropout,
    }
    assert stream.positions is not None
    state = {"model.decoder.embed_tokens.weight": stream.tokens}
    # The first two rows are never used.
    state["model.decoder.embed_positions.weight"] = stacked([zeros(2, stream.width), stream.positions])
    norms = [item.norm for item in traits.blocks] if is_pre else traits.norms_after
    for number, item in enumerate(traits.blocks):
        name, norm = f"model.decoder.layers.{number // 2}.", norms[number]
        assert norm is not None
        state |= norm_state(name + ("final_layer_norm" if number % 2 else "self_attn_layer_norm"), norm, stream.width)
        if isinstance(item.part, AttentionPart):
            for place, layer in zip(("q", "k", "v", "out"), _four(item.part), strict=True):
                state |= affine_state(f"{name}self_attn.{place}_proj", layer, stream.width)
        else:
            state |= affine_state(f"{name}fc1", item.part.up, item.part.size)
            state |= affine_state(f"{name}fc2", item.part.down, stream.width)
    if is_pre and stream.final_norm is not None:
        state |= norm_state("model.decoder.final_layer_norm", stream.final_norm, stream.width)
    state |= head_state(found)
    return Candidate("OPT", "OPTForCausalLM", "opt", common_config(found, sizes) | config, state)


def gpt_neox(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a GPT-NeoX (Pythia), or what it lacks."""
    stream, traits, needs = found.stream, Traits(found.stream), Needs("GPT-NeoX")
    need_decoder(needs, found, traits)
    is_parallel = all(item.is_parallel for item in traits.blocks[1::2])
    needs.need(traits.is_pre or is_parallel, "its norms came before each part")
    needs.need(
        all(item.norm is not None and not item.shares_norm and not item.is_post for item in traits.blocks),
        "each part had a norm of its own before it",
    )
    needs.need(stream.final_norm is not None, "there were a norm at the end")
    needs.need(traits.norm_kind("layer"), "its norms were LayerNorm")
    needs.need(stream.positions is None, "it had no learned positions")
    needs.need(traits.first.rotary is not None, "its queries were rotated by positions")
    needs.need(_is_plain(traits), "it had plain heads as wide as the stream and no gate")
    rotary = traits.first.rotary
    if needs.lacks or rotary is None:
        return needs
    first, width = traits.first, stream.width
    config = {
        "max_position_embeddings": sizes.max_length or _UNLIMITED,
        "hidden_size": width,
        "num_hidden_layers": traits.layer_count,
        "num_attention_heads": first.heads,
        "intermediate_size": traits.inner_size,
        "hidden_act": traits.activation,
        "rotary_pct": rotary.size / first.head_size,
        "rotary_emb_base": rotary.theta,
        "layer_norm_eps": traits.eps,
        "use_parallel_residual": is_parallel,
        "attention_bias": traits.has_bias(("q", "k", "v", "out")),
        **dict.fromkeys(("hidden_dropout", "attention_dropout"), sizes.dropout),
    }
    state = {"gpt_neox.embed_in.weight": stream.tokens}
    for number, item in enumerate(traits.blocks):
        name = f"gpt_neox.layers.{number // 2}."
        assert item.norm is not None
        state |= norm_state(name + ("post_attention_layernorm" if number % 2 else "input_layernorm"), item.norm, width)
        if isinstance(item.part, AttentionPart):
            packed = _by_head([item.part.q, item.part.k, item.part.v], first.heads, width)
            bias = width if config["attention_bias"] else None
            state[f"{name}attention.query_key_value.weight"] = packed[0]
            state |= {f"{name}attention.query_key_value.bias": packed[1]} if bias else {}
            state |= affine_state(f"{name}attention.dense", item.part.out, bias)
        else:
            state |= affine_state(f"{name}mlp.dense_h_to_4h", item.part.up, item.part.size)
            state |= affine_state(f"{name}mlp.dense_4h_to_h", item.part.down, width)
    assert stream.final_norm is not None
    state |= norm_state("gpt_neox.final_layer_norm", stream.final_norm, width) | head_state(found)
    return Candidate("GPT-NeoX", "GPTNeoXForCausalLM", "gpt_neox", common_config(found, sizes) | config, state)


def _is_plain(traits: Traits) -> bool:
    first = traits.first
    return (
        first.kv_heads == first.heads
        and first.heads * first.head_size == traits.stream.width
        and first.q_norm is None
        and not any(item.gate for item in traits.feed_forwards)
    )


def _four(part: AttentionPart) -> list[Affine]:
    return [part.q, part.k, part.v, part.out]


def _by_head(parts: list[Affine], heads: int, width: int) -> tuple[Expr, Expr]:
    """Return weight and bias of queries, keys and values of the first head, then of the second, and so on."""

    def woven(items: list[Expr]) -> Expr:
        return lambda parameters: torch.stack(
            [item(parameters).unflatten(0, (heads, -1)) for item in items], 1
        ).flatten(0, 2)

    return woven([part.weight for part in parts]), woven([part.bias or zeros(width) for part in parts])
