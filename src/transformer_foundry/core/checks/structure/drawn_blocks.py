"""Check that the generated modules agree with the settings of the drawn blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from transformer_foundry.core.checks.probing.drawn_graph import Node
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.structure.configuration import (
    FEED_FORWARD_KEYS,
    HEAD_KEYS,
    WIDTH_KEYS,
    stated_value,
)

__all__ = ["check_drawn_blocks"]


def check_drawn_blocks(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that each generated module has the sizes that its drawn block states."""
    for path, module in subject.model.named_modules():
        node = subject.graph.node_of(path) if path else None
        if node is None:
            continue
        for names, found in [*_settings(module, subject), *_own_settings(module, node)]:
            key, stated = stated_value(node.params, names, float)
            if stated is not None and abs(stated - found) > 1e-12:
                yield finding_at(
                    "configuration",
                    "warning",
                    f"The block {node.id} is drawn with {key}: {stated:g}, but the generated module {path} has "
                    f"{found:g}.",
                    subject.locator.module(path),
                    f"export again, so that {key} is {stated:g} in the code too.",
                )


def _settings(module: nn.Module, subject: ModelUnderTest) -> Iterable[tuple[tuple[str, ...], float]]:
    if isinstance(module, nn.MultiheadAttention):
        yield HEAD_KEYS, module.num_heads
        yield (*WIDTH_KEYS, "embed_dim"), module.embed_dim
    elif isinstance(module, nn.LayerNorm):
        yield ("eps",), module.eps
    elif isinstance(module, nn.Embedding) and module.num_embeddings == subject.contract.vocab_size:
        yield ("d_model", "embed_dim", "embedding_dim"), module.embedding_dim


def _own_settings(module: nn.Module, node: Node) -> Iterable[tuple[tuple[str, ...], float]]:
    """Yield sizes from attributes with the name of a setting of the block, and from the module's weights."""
    for names in (HEAD_KEYS, WIDTH_KEYS, FEED_FORWARD_KEYS, ("eps",)):
        values = [getattr(module, name) for name in names if isinstance(vars(module).get(name), int | float)]
        yield from ((names, value) for value in values[:1] if not isinstance(value, bool))
    layers = [child for child in module.modules() if isinstance(child, nn.Linear)]
    key, stated = stated_value(node.params, FEED_FORWARD_KEYS)
    sizes = {size for layer in layers for size in (layer.in_features, layer.out_features)}
    if stated is not None and len(layers) > 1 and not sizes & {stated, 2 * stated}:
        yield (key,), max(layer.out_features for layer in layers)
