"""Encoder-only architectures: BERT."""

from __future__ import annotations

from transformer_foundry.core.export.native.description import AttentionPart, Description, Expr
from transformer_foundry.core.export.native.families.candidate import (
    HEAD,
    Candidate,
    Needs,
    Sizes,
    Traits,
    affine_state,
    common_config,
    norm_state,
    zeros,
)

__all__ = ["bert"]

# BERT has two segments; a drawn model has one, whose embedding is part of the positions.
_SEGMENTS = 2


def bert(found: Description, sizes: Sizes) -> Candidate | Needs:
    """Return the drawn model as a BERT, or what it lacks."""
    stream, traits, needs = found.stream, Traits(found.stream), Needs("BERT")
    is_tagger = sizes.num_labels is not None
    needs.need(traits.order("self", "ff"), "each block were attention, then a feed-forward network")
    needs.need(not any(item.is_causal for item in traits.attentions), "its attention were over all tokens")
    needs.need(traits.is_post, "its norms came after each part")
    needs.need(stream.embedding_norm is not None, "its embeddings were normalized")
    needs.need(traits.norm_kind("layer"), "its norms were LayerNorm")
    needs.need(stream.positions is not None, "it had learned positions")
    needs.need(stream.token_scale == 1, "its token embedding were not scaled")
    needs.need(traits.first.rotary is None, "its queries were not rotated")
    needs.need(traits.first.kv_heads * traits.first.head_size == stream.width, "its heads were as wide as the stream")
    needs.need(traits.first.q_norm is None, "its queries and keys were not normalized")
    needs.need(all(item.bias is None for item in traits.attentions), "nothing were added to its attention scores")
    needs.need(not any(item.gate for item in traits.feed_forwards), "its feed-forward network had no gate")
    needs.need(found.head_scale == 1, "its last state went into the head as it is")
    needs.need(not stream.is_normalized_twice, "it had no further norm at the end")
    needs.need(traits.is_uniform and traits.activation is not None, "all its blocks were alike")
    needs.need(_eps(found, traits) is not None, "all its norms had the same epsilon")
    if is_tagger:
        needs.need(found.transform is None, "its head were one linear layer")
    else:
        needs.need(
            found.transform_norm is not None and found.transform_activation == traits.activation,
            "its head had a layer, the activation and a norm before the last layer",
        )
    if needs.lacks:
        return needs
    config = common_config(found, sizes) | {
        "hidden_size": stream.width,
        "num_hidden_layers": traits.layer_count,
        "num_attention_heads": traits.first.heads,
        "intermediate_size": traits.inner_size,
        "hidden_act": traits.activation,
        "max_position_embeddings": stream.position_count,
        "type_vocab_size": _SEGMENTS,
        "layer_norm_eps": traits.eps,
        **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), sizes.dropout),
    }
    if is_tagger:
        state = _encoder(found, traits) | affine_state("classifier", found.head, sizes.num_labels)
        return Candidate("BERT", "BertForTokenClassification", "bert", config | {"num_labels": sizes.num_labels}, state)
    return Candidate("BERT", "BertForMaskedLM", "bert", config, _encoder(found, traits) | _masked_head(found))


def _eps(found: Description, traits: Traits) -> float | None:
    if found.transform_norm is not None and found.transform_norm.eps != traits.eps:
        return None
    return traits.eps


def _encoder(found: Description, traits: Traits) -> dict[str, Expr]:
    stream, width = found.stream, found.stream.width
    assert stream.positions is not None
    assert stream.embedding_norm is not None
    state = {
        "bert.embeddings.word_embeddings.weight": stream.tokens,
        "bert.embeddings.position_embeddings.weight": stream.positions,
        "bert.embeddings.token_type_embeddings.weight": zeros(_SEGMENTS, width),
        **norm_state("bert.embeddings.LayerNorm", stream.embedding_norm, width),
    }
    for number, (item, norm) in enumerate(zip(traits.blocks, traits.norms_after, strict=True)):
        name, part = f"bert.encoder.layer.{number // 2}.", item.part
        assert norm is not None
        if isinstance(part, AttentionPart):
            for place, layer in (("query", part.q), ("key", part.k), ("value", part.v)):
                state |= affine_state(f"{name}attention.self.{place}", layer, width)
            state |= affine_state(f"{name}attention.output.dense", part.out, width)
            state |= norm_state(f"{name}attention.output.LayerNorm", norm, width)
        else:
            state |= affine_state(f"{name}intermediate.dense", part.up, part.size)
            state |= affine_state(f"{name}output.dense", part.down, width)
            state |= norm_state(f"{name}output.LayerNorm", norm, width)
    return state


def _masked_head(found: Description) -> dict[str, Expr]:
    assert found.transform is not None
    assert found.transform_norm is not None
    width, bias = found.stream.width, found.head.bias or zeros(found.stream.vocab_size)
    state = affine_state("cls.predictions.transform.dense", found.transform, width)
    state |= norm_state("cls.predictions.transform.LayerNorm", found.transform_norm, width)
    state["cls.predictions.bias"] = bias
    return state if found.is_tied else state | {f"{HEAD}.weight": found.head.weight, f"{HEAD}.bias": bias}
