"""What every decoder-only family needs."""

from __future__ import annotations

from transformer_foundry.core.export.native.description import Description, FeedForwardPart
from transformer_foundry.core.export.native.families.candidate import Needs, Traits

__all__ = ["need_decoder"]


def need_decoder(needs: Needs, found: Description, traits: Traits) -> None:
    """Note what every decoder-only family needs."""
    needs.need(traits.order("self", "ff"), "each block were attention, then a feed-forward network")
    needs.need(all(item.is_causal for item in traits.attentions), "its attention were causal")
    needs.need(
        all(
            item.part.gate is None or traits.is_gated
            for item in traits.blocks
            if isinstance(item.part, FeedForwardPart)
        ),
        "all its feed-forward networks had a gate",
    )
    needs.need(found.stream.token_scale == 1, "its token embedding were not scaled")
    needs.need(found.stream.embedding_norm is None, "its embeddings were not normalized")
    needs.need(found.stream.fixed_positions is None, "its positions were not a fixed table")
    needs.need(found.transform is None, "its head were one linear layer")
    needs.need(found.head_scale == 1, "its last state went into the head as it is")
    needs.need(not found.stream.is_normalized_twice, "it had no further norm at the end")
    needs.need(found.head.bias is None, "its head had no bias")
    needs.need(all(item.bias is None for item in traits.attentions), "nothing were added to its attention scores")
    needs.need(traits.is_uniform, "all its blocks had the same sizes")
    needs.need(traits.eps is not None, "all its norms had the same epsilon")
    needs.need(traits.activation is not None, "all its blocks had the same activation")
