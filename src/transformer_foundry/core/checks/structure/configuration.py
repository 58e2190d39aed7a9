"""Check that the model agrees with ``config.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from transformer_foundry.core.checks.attention.weights import attention_records
from transformer_foundry.core.checks.probing.finding import Finding, Severity, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.models.inference import config_hints

__all__ = ["FEED_FORWARD_KEYS", "HEAD_KEYS", "WIDTH_KEYS", "check_configuration", "stated_value"]

WIDTH_KEYS = ("d_model", "hidden_size", "n_embd", "embed_dim", "model_dim", "dim", "hidden_dim")
LAYER_KEYS = ("num_layers", "n_layer", "n_layers", "num_hidden_layers", "depth", "num_blocks")
ENCODER_LAYER_KEYS = ("num_encoder_layers", "encoder_layers", "n_encoder_layers")
DECODER_LAYER_KEYS = ("num_decoder_layers", "decoder_layers", "n_decoder_layers")
HEAD_KEYS = ("nhead", "num_heads", "n_head", "n_heads", "num_attention_heads")
FEED_FORWARD_KEYS = ("dim_feedforward", "d_ff", "ffn_dim", "intermediate_size", "ff_dim", "n_inner")
TIE_KEYS = ("tie_weights", "tie_word_embeddings", "tie_embeddings", "weight_tying", "tied", "share_embeddings")
DROPOUT_KEYS = ("dropout", "dropout_rate", "dropout_prob", "hidden_dropout_prob", "resid_pdrop")


def check_configuration(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that sizes, heads, layers, classes, dropout, weight tying and special tokens agree with config.json."""
    yield from _width(subject)
    yield from _layers(subject)
    yield from _heads(subject)
    yield from _feed_forward(subject)
    yield from _classes(subject)
    yield from _dropout(subject)
    yield from _ties(subject)
    yield from _special_tokens(subject)


def _mismatch(key: str, stated: object, found: str, location: Location, severity: Severity = "warning") -> Finding:
    return finding_at(
        "configuration",
        severity,
        f"config.json says {key}: {stated}, but the model that was built has {found}. The setting has no effect; "
        "size, memory and quality differ from what was intended.",
        location,
        f"build the model with config['{key}'] instead of a number fixed in the code.",
    )


def _width(subject: ModelUnderTest) -> Iterator[Finding]:
    key, stated = stated_value(subject.config, WIDTH_KEYS)
    if stated is None:
        return
    vocab_size = subject.contract.vocab_size
    tables = [item for item in subject.submodules(nn.Embedding) if item[1].num_embeddings >= vocab_size - 1]
    sizes = {size for parameter in subject.model.parameters() for size in parameter.shape}
    if stated not in sizes and tables:
        path, table = tables[0]
        yield _mismatch(key, stated, f"a width of {table.embedding_dim}", subject.locator.module(path))


def _layers(subject: ModelUnderTest) -> Iterator[Finding]:
    stated = {key: value for key, value in subject.config.items() if key in LAYER_KEYS and isinstance(value, int)}
    records = attention_records(subject.trace, subject.lengths)
    lists = _layer_lists(subject)
    counts = {len(module) for _, module in subject.submodules(nn.ModuleList)}
    counts |= {len(module) for _, module in lists}
    # A shared layer is called once per layer.
    counts |= set(Counter(call.module for call in subject.trace.modules if call.module).values())
    if records:
        counts |= {len(records), len({record.module for record in records})}
    for key, value in stated.items():
        if not counts or value in counts or isinstance(value, bool) or value == sum(len(module) for _, module in lists):
            continue
        largest = max(counts)
        if (subject.kind == "encoder-decoder" and value * 2 in counts) or value * 3 in counts:
            continue
        path = next((path for path, module in lists if len(module) == largest), "")
        location = subject.locator.module(path) if path else subject.locator.at(None)
        yield _mismatch(key, value, f"{largest} layer{'' if largest == 1 else 's'}", location)
    for keys, word in ((ENCODER_LAYER_KEYS, "enc"), (DECODER_LAYER_KEYS, "dec")):
        key, number = stated_value(subject.config, keys)
        named = [(path, module) for path, module in lists if word in path.lower()]
        if number is not None and named and all(len(module) != number for _, module in named):
            path, module = named[0]
            yield _mismatch(key, number, f"{len(module)} layers in {path}", subject.locator.module(path))


def _heads(subject: ModelUnderTest) -> Iterator[Finding]:
    key, stated = stated_value(subject.config, HEAD_KEYS)
    records = [record for record in attention_records(subject.trace, subject.lengths) if record.heads is not None]
    if stated is None or not records:
        return
    # ConvBERT's head_ratio: convolutions replace all but 1 / head_ratio of the heads.
    ratio = subject.config.get("head_ratio")
    accepted = (stated, stated // ratio if isinstance(ratio, int) else stated)
    if all(record.heads not in accepted for record in records):
        location = subject.locator.module(records[0].module, records[0].line)
        yield _mismatch(key, stated, f"{records[0].heads} attention heads", location)


def _feed_forward(subject: ModelUnderTest) -> Iterator[Finding]:
    key, stated = stated_value(subject.config, FEED_FORWARD_KEYS)
    if stated is None:
        return
    sizes = {size for parameter in subject.model.parameters() if parameter.ndim >= 2 for size in parameter.shape}
    # Gated feed-forwards often use two thirds, rounded up to a multiple of at most 256.
    two_thirds = 2 * stated // 3
    _, width = stated_value(subject.config, WIDTH_KEYS)
    others = {subject.contract.vocab_size, subject.contract.max_length, *(width * n for n in (1, 2, 3) if width)}
    usual = {stated, 2 * stated} | ((_rounded(two_thirds) | {stated // 2}) - others)
    if sizes and not sizes & usual:
        widest = max(subject.submodules(nn.Linear), key=lambda item: _expansion(item[1], subject), default=None)
        location = subject.locator.module(widest[0]) if widest else subject.locator.forward()
        found = f"{widest[1].out_features}" if widest else "another width"
        yield _mismatch(key, stated, f"no weight of that width ({found} in the widest block)", location)


def _rounded(number: int) -> set[int]:
    """Return ``number``, and it rounded up to multiples of powers of two up to 256."""
    return {-(-number // 2**power) * 2**power for power in range(9)}


def _expansion(module: nn.Linear, subject: ModelUnderTest) -> int:
    return 0 if module.out_features == subject.contract.output_size else module.out_features


def _classes(subject: ModelUnderTest) -> Iterator[Finding]:
    size, contract = subject.contract.output_size, subject.contract
    if contract.scores_texts or contract.task == "token_classification":
        stated = config_hints.num_labels_hint(subject.config)
        if stated is not None and stated != size:
            yield _mismatch("num_labels", stated, f"{size} classes in its output", _last_linear(subject), "error")
        return
    vocabulary = config_hints.vocabulary_hint(subject.config, decoder=subject.kind == "encoder-decoder")
    if vocabulary is not None and size < vocabulary:
        yield _mismatch("vocab_size", vocabulary, f"logits for {size} tokens", _last_linear(subject), "error")


def _dropout(subject: ModelUnderTest) -> Iterator[Finding]:
    key, stated = stated_value(subject.config, DROPOUT_KEYS, float)
    if not stated or stated <= 0:
        return
    inputs = subject.inputs(batch=2)
    first, second = subject.logits(inputs, seed=1, training=True), subject.logits(inputs, seed=2, training=True)
    if torch.equal(first, second):
        found = "no dropout: two calls in training mode agree bit for bit"
        yield replace(_mismatch(key, stated, found, subject.locator.forward()), check="dropout")


def _ties(subject: ModelUnderTest) -> Iterator[Finding]:
    key = next((key for key in TIE_KEYS if subject.config.get(key) is True), None)
    if key is None or subject.contract.task not in ("causal_lm", "masked_lm", "seq2seq_lm"):
        return
    size = subject.contract.output_size
    tables = [item for item in subject.submodules(nn.Embedding) if item[1].num_embeddings == size]
    heads = [item for item in subject.submodules(nn.Linear) if item[1].out_features == size]
    storages = {table.weight.data_ptr() for _, table in tables}
    loose = [
        (path, head)
        for path, head in heads
        if head.weight.data_ptr() not in storages
        and any(head.in_features == table.embedding_dim for _, table in tables)
    ]
    if loose and tables and len(loose) == len(heads):
        path, head = loose[0]
        copied = any(
            torch.equal(head.weight, table.weight) for _, table in tables if table.weight.shape == head.weight.shape
        )
        what = "a copy of the embedding" if copied else "separate weights"
        yield finding_at(
            "tied weights",
            "warning",
            f"config.json says {key}: true, but the output layer {path} has {what}, not those of the embedding "
            f"{tables[0][0]}: they are two tensors that diverge in training, {head.weight.numel():,} weights more "
            "than intended.",
            subject.locator.module(path),
            f"share the tensor: self.{path}.weight = self.{tables[0][0]}.weight, after any initialization.",
        )


def _special_tokens(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that special tokens have a row in the embedding, and that the row without gradient is that of padding."""
    size = subject.contract.vocab_size
    tables = [item for item in subject.submodules(nn.Embedding) if item[1].num_embeddings == size]
    for key, value in subject.config.items():
        # Only the number after the last row: configurations of small copies keep the ids of the large model.
        if str(key).endswith("_token_id") and value == size and not isinstance(value, bool):
            yield finding_at(
                "configuration",
                "error",
                f"config.json says {key}: {value}, but the model has rows for the ids 0 to {size - 1} only: the token "
                "has no row, and the model fails at the first text that contains it.",
                subject.locator.module(tables[0][0]) if tables else subject.locator.forward(),
                f"include the special tokens: vocab_size {size + 1}, or {key} below {size}.",
            )
    pad = subject.config.get("pad_token_id")
    for path, table in tables:
        if isinstance(pad, int) and table.padding_idx is not None and table.padding_idx != pad:
            yield finding_at(
                "configuration",
                "warning",
                f"The embedding {path} keeps row {table.padding_idx} for padding (padding_idx), but config.json says "
                f"pad_token_id: {pad}. Token {table.padding_idx} starts at zero and never learns.",
                subject.locator.module(path),
                f"set padding_idx={pad}.",
            )


def stated_value(config: Mapping[str, Any], keys: Iterable[str], kind: type = int) -> tuple[str, Any]:
    """Return the first of ``keys`` with a number of this type, and the number; an empty key and None otherwise."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int | kind) and not isinstance(value, bool):
            return key, value
    return "", None


def _layer_lists(subject: ModelUnderTest) -> list[tuple[str, nn.ModuleList | nn.Sequential]]:
    """Return (path, list or sequence of modules of one class), in the order of the model: the layers."""
    return [
        (path, module)
        for path, module in subject.model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len({type(child) for child in module}) == 1
    ]


def _last_linear(subject: ModelUnderTest) -> Location:
    size = subject.contract.output_size
    linear = [path for path, module in subject.submodules(nn.Linear) if module.out_features == size]
    return subject.locator.module(linear[-1]) if linear else subject.locator.forward()
