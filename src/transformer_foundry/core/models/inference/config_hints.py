"""Read kind, task, sizes and special tokens of a model from ``config.json``, in any of the usual spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from transformer_foundry.core.models.options import KINDS, TASKS, normalize_kind

__all__ = [
    "SPECIAL_TOKENS",
    "TASK_KINDS",
    "WIDTH_KEYS",
    "find_int",
    "find_value",
    "graph_nodes",
    "kind_guess",
    "kind_hint",
    "max_length_hint",
    "num_labels_hint",
    "special_tokens",
    "task_hint",
    "vocabulary_hint",
]

VOCABULARY_KEYS = ("vocab_size", "vocabulary_size", "n_vocab", "num_tokens", "n_tokens", "ntoken", "num_embeddings")
SOURCE_VOCABULARY_KEYS = ("src_vocab_size", "source_vocab_size", "encoder_vocab_size", "input_vocab_size")
TARGET_VOCABULARY_KEYS = (
    "tgt_vocab_size", "trg_vocab_size", "target_vocab_size", "decoder_vocab_size", "output_vocab_size",
)  # fmt: skip
LENGTH_KEYS = (
    "max_seq_len", "max_sequence_length", "max_position_embeddings", "n_positions", "n_ctx", "block_size",
    "context_length", "context_size", "seq_length", "seq_len", "sequence_length", "max_seq_length", "max_len",
    "model_max_length", "max_positions", "max_source_positions",
)  # fmt: skip
WIDTH_KEYS = ("d_model", "hidden_size", "n_embd", "embed_dim", "embedding_dim", "emb_dim", "dim")
LABEL_KEYS = ("num_labels", "num_classes", "n_classes", "n_labels", "num_class")
SPECIAL_TOKENS: Mapping[str, tuple[str, ...]] = {
    "pad_token_id": ("pad_token_id", "pad_id", "pad_idx", "padding_idx", "pad_token", "src_pad_idx"),
    "bos_token_id": ("bos_token_id", "bos_id", "bos_idx", "bos_token", "sos_token_id", "sos_id", "sos_idx"),
    "eos_token_id": ("eos_token_id", "eos_id", "eos_idx", "eos_token"),
    "mask_token_id": ("mask_token_id", "mask_id", "mask_idx", "mask_token"),
    "unk_token_id": ("unk_token_id", "unk_id", "unk_idx", "unk_token"),
    "decoder_start_token_id": ("decoder_start_token_id", "decoder_start_id", "decoder_start_token"),
}
# Sections in which a configuration may have its sizes, instead of at the top level.
SECTIONS = ("model", "config", "params", "model_config", "hyperparameters", "architecture", "text_config")

KIND_KEYS = (
    "kind",
    "architecture",
    "architecture_type",
    "model_kind",
    "family",
    "arch",
    "model_type",
    "type",
    "preset",
)
TASK_KEYS = ("task", "task_type", "objective", "problem_type")
TASK_NAMES: Mapping[str, str] = {
    "causal_lm": "causal_lm", "causal_language_modeling": "causal_lm", "clm": "causal_lm", "lm": "causal_lm",
    "language_modeling": "causal_lm", "text_generation": "causal_lm", "masked_lm": "masked_lm", "mlm": "masked_lm",
    "fill_mask": "masked_lm", "masked_language_modeling": "masked_lm", "seq2seq_lm": "seq2seq_lm",
    "seq2seq": "seq2seq_lm", "translation": "seq2seq_lm", "summarization": "seq2seq_lm",
    "text2text_generation": "seq2seq_lm", "sequence_classification": "sequence_classification",
    "text_classification": "sequence_classification", "classification": "sequence_classification",
    "token_classification": "token_classification", "ner": "token_classification",
    "single_label_classification": "sequence_classification", "multilabel": "multi_label_classification",
    "multi_label": "multi_label_classification", "multilabel_classification": "multi_label_classification",
}  # fmt: skip
CLASS_NAME_TASKS = (
    (r"(causal|auto_?regressive)_?lm(_|$)|lm_?head|language_?model_?head", "causal_lm"),
    (r"(^|_|for)(masked_?lm|mlm|pre_?training)(_|$)", "masked_lm"),
    (r"for_?conditional_?generation|seq_?2_?seq", "seq2seq_lm"),
    (r"(sequence|text|doc(ument)?|sentiment)_?classif", "sequence_classification"),
    (r"token_?classif|(^|_)tagger", "token_classification"),
)
TASK_KINDS: Mapping[str, str] = {
    "causal_lm": "decoder-only", "masked_lm": "encoder-only", "seq2seq_lm": "encoder-decoder",
}  # fmt: skip
# Model families, matched against words joined by "_"; the first match counts.
KIND_WORDS = (
    (
        r"encoder_?decoder|seq_?2_?seq|seq_?to_?seq|enc_?dec|(?<!gp)t5|bart|marian|pegasus|m2m|translat",
        "encoder-decoder",
    ),
    (
        r"gpt|llama|mistral|mixtral|gemma|qwen|falcon|bloom|olmo|pythia|decoder|causal|autoregressive"
        r"|(^|_)(phi|opt|mpt)\d*(_|$)",
        "decoder-only",
    ),
    (r"bert|electra|encoder|bidirectional|(^|_)mlm(_|$)|masked|classif", "encoder-only"),
)


def graph_nodes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the drawn blocks (``nodes``) of a graph configuration, an empty list for a flat one."""
    nodes = config.get("nodes")
    if not isinstance(nodes, Sequence) or isinstance(nodes, str):
        return []
    return [node for node in nodes if isinstance(node, Mapping)]


def find_value(config: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first value under one of ``names``: at the top level, in a section, or in a drawn block."""
    names = tuple(names)
    for mapping in _mappings(config):
        for name in names:
            if mapping.get(name) is not None:
                return mapping[name]
    return None


def find_int(config: Mapping[str, Any], names: Iterable[str], minimum: int = 1) -> int | None:
    """Return the first value under one of ``names`` if it is an integer of at least ``minimum``, else None."""
    value = find_value(config, names)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        return None
    return value


def vocabulary_hint(config: Mapping[str, Any], *, decoder: bool = False) -> int | None:
    """Return the configured vocabulary size, of the source or of the decoder."""
    specific = TARGET_VOCABULARY_KEYS if decoder else SOURCE_VOCABULARY_KEYS
    return find_int(config, specific) or find_int(config, VOCABULARY_KEYS)


def max_length_hint(config: Mapping[str, Any]) -> int | None:
    """Return the configured sequence length, the smallest one if drawn blocks differ."""
    drawn = [find_int(params, LENGTH_KEYS) for params in _drawn_params(config)]
    stated = find_int({**config, "nodes": None}, LENGTH_KEYS)
    return stated or min((length for length in drawn if length is not None), default=None)


def num_labels_hint(config: Mapping[str, Any]) -> int | None:
    """Return the configured number of classes."""
    labels = config.get("id2label")
    return find_int(config, LABEL_KEYS) or (len(labels) if isinstance(labels, Mapping) and labels else None)


def special_tokens(config: Mapping[str, Any], vocab_size: int) -> dict[str, int | None]:
    """Return the configured special token ids that are within the vocabulary: role -> id or None."""
    found: dict[str, int | None] = {}
    for role, names in SPECIAL_TOKENS.items():
        value = find_value(config, names)
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = value[0]
        valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocab_size
        found[role] = value if valid else None
    return found


def task_hint(config: Mapping[str, Any], class_name: str) -> str | None:
    """Return the task that the configuration or the class name states."""
    for key in TASK_KEYS:
        name = _words(config.get(key))
        if name in TASK_NAMES or name in TASKS:
            return TASK_NAMES.get(name, name)
    for pattern, task in CLASS_NAME_TASKS:
        if re.search(pattern, _words(class_name)):
            return task
    return None


def kind_hint(config: Mapping[str, Any], class_name: str) -> str | None:
    """Return the kind that the configuration states, or None.

    An explicit kind comes first (``architecture: decoder-only``), then the task in the class name (``BartForCausalLM``
    is a decoder), then the model family (``model_type: bert``).
    """
    stated = [config[key] for key in KIND_KEYS if isinstance(config.get(key), str)]
    for kind in map(normalize_kind, stated):
        if kind in KINDS:
            return kind
    # XLM and XLNet are named language models but are bidirectional.
    if config.get("causal") is False or config.get("attn_type") == "bi":
        return "encoder-only"
    task = task_hint(config, class_name)
    if task is not None and task in TASK_KINDS:
        return TASK_KINDS[task]
    if config.get("is_encoder_decoder") is True:
        return "encoder-decoder"
    if config.get("is_decoder") is True:
        return "decoder-only"
    return next((kind for kind in map(_family, stated) if kind), None)


def kind_guess(config: Mapping[str, Any], class_name: str) -> str | None:
    """Return the kind that the drawn blocks suggest, or else the names of class and model."""
    if any(params.get("causal") is True for params in _drawn_params(config)):
        return "decoder-only"
    return _family(class_name) or _family(config.get("model_name"))


def _family(text: Any) -> str | None:
    return next((kind for pattern, kind in KIND_WORDS if re.search(pattern, _words(text))), None)


def _mappings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config
    yield from (config[name] for name in SECTIONS if isinstance(config.get(name), Mapping))
    yield from _drawn_params(config)


def _drawn_params(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [node["params"] for node in graph_nodes(config) if isinstance(node.get("params"), Mapping)]


def _words(text: Any) -> str:
    """Return lower-case words joined by "_": ``BertForMaskedLM`` becomes ``bert_for_masked_lm``."""
    if not isinstance(text, str):
        return ""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
