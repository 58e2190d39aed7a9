"""Build reference architectures of the transformers library with the vocabulary, length and size of another model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["REFERENCES", "build_reference", "require_reference"]

HEADS = 4
_WIDTH_STEP = 16  # An even width of each head: rotary embeddings pair the channels.
_MAX_WIDTH = 8192

_Sizes = Callable[[int, int, int], dict[str, Any]]


def _standard(width: int, layers: int, length: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * width,
        "max_position_embeddings": length,
    }


def _gated(width: int, layers: int, length: int) -> dict[str, Any]:
    # Three matrices instead of two: 8/3 of the width has the weights of 4 (Shazeer 2020).
    sizes = _standard(width, layers, length) | {"num_key_value_heads": HEADS, "intermediate_size": 8 * width // 3}
    return sizes | {"head_dim": width // HEADS}


def _gpt2(width: int, layers: int, length: int) -> dict[str, Any]:
    return {"n_embd": width, "n_layer": layers, "n_head": HEADS, "n_positions": length}


def _opt(width: int, layers: int, length: int) -> dict[str, Any]:
    sizes = _standard(width, layers, length)
    return sizes | {"ffn_dim": sizes.pop("intermediate_size"), "word_embed_proj_dim": width}


def _electra(width: int, layers: int, length: int) -> dict[str, Any]:
    return _standard(width, layers, length) | {"embedding_size": width}


def _roberta(width: int, layers: int, length: int) -> dict[str, Any]:
    return _standard(width, layers, length + 2) | {"type_vocab_size": 1}


def _t5(width: int, layers: int, length: int) -> dict[str, Any]:  # noqa: ARG001 - positions are relative
    return {"d_model": width, "d_kv": width // HEADS, "d_ff": 4 * width, "num_layers": layers, "num_heads": HEADS}


def _bart(width: int, layers: int, length: int) -> dict[str, Any]:
    sizes: dict[str, Any] = {"d_model": width, "max_position_embeddings": length}
    for side in ("encoder", "decoder"):
        sizes |= {
            f"{side}_layers": layers,
            f"{side}_attention_heads": HEADS,
            f"{side}_ffn_dim": 4 * width,
        }
    return sizes


_DECODERS: dict[str, _Sizes] = {
    "gpt2": _gpt2,
    "gpt_neox": _standard,
    "llama": _gated,
    "mistral": _gated,
    "olmo": _gated,
    "opt": _opt,
    "qwen2": _gated,
}
_ENCODERS: dict[str, _Sizes] = {"bert": _standard, "electra": _electra, "roberta": _roberta}

REFERENCES: Mapping[str, Mapping[str, _Sizes]] = {
    "causal_lm": _DECODERS,
    "masked_lm": _ENCODERS,
    **dict.fromkeys(TEXT_TASKS, _ENCODERS),
    "token_classification": _ENCODERS,
    "seq2seq_lm": {"bart": _bart, "t5": _t5},
}
"""Task -> name -> function (width, layers, longest row) -> sizes of the configuration."""

_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    **dict.fromkeys(TEXT_TASKS, "AutoModelForSequenceClassification"),
    "token_classification": "AutoModelForTokenClassification",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
}


def require_reference(name: str, task: str, others: Collection[str] = ()) -> None:
    """Refuse an architecture that is unknown or for another task.

    Args:
        name: The name that the user gave.
        task: Task of the data.
        others: Other names to suggest: folders.

    Raises:
        ParameterError: If it is, with the nearest name.
    """
    known = sorted(REFERENCES[task])
    if name in known:
        return
    owners = sorted(other for other, names in REFERENCES.items() if name in names)
    if owners:
        problem = f"benchmark.models: {name} is a reference architecture for {', '.join(owners)}, not for {task}."
    else:
        everything = {reference for names in REFERENCES.values() for reference in names}
        problem = f"benchmark.models: there is no folder and no reference architecture {name!r}."
        problem += suggestion(name, others) or suggestion(name.lower(), everything)
    raise ParameterError(
        problem,
        f"References for {task}: {', '.join(known)}; or the folder of an export.",
        "Correct benchmark.models.",
    )


def build_reference(name: str, splits: TokenSplits, *, parameter_count: int, layers: int, seed: int) -> nn.Module:
    """Build an architecture with about as many parameters as another model.

    Args:
        name: One of ``REFERENCES`` for the task of ``splits``.
        splits: Data whose vocabulary, longest row and special tokens it gets.
        parameter_count: Number of parameters to approximate by the choice of the width.
        layers: Layers of the model (of encoder and decoder each).
        seed: Seed of the initial weights.
    """
    import torch

    def build(width: int) -> nn.Module:
        return _build(name, splits, width, layers)

    def count(width: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(width).parameters())

    low, high = 1, _MAX_WIDTH // _WIDTH_STEP
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle * _WIDTH_STEP) < parameter_count else (low, middle)
    candidates = [steps * _WIDTH_STEP for steps in (low - 1, low) if steps > 0]
    width = min(candidates, key=lambda width: abs(count(width) - parameter_count))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(width)


def _build(name: str, splits: TokenSplits, width: int, layers: int) -> nn.Module:
    import transformers

    special = splits.special
    pad = special.pad if special.pad is not None else 0
    settings = REFERENCES[splits.task][name](width, layers, splits.max_length + 1)
    settings |= {"vocab_size": splits.vocab_size, "pad_token_id": pad}
    settings |= {"bos_token_id": special.bos, "eos_token_id": special.eos}
    if splits.task == "seq2seq_lm":
        settings["decoder_start_token_id"] = special.decoder_start if special.decoder_start is not None else pad
    if splits.label_names is not None:
        settings["num_labels"] = len(splits.label_names)
    elif splits.task == "regression":
        settings["num_labels"] = 1
    config = transformers.AutoConfig.for_model(name, **settings)
    model: nn.Module = getattr(transformers, _CLASSES[splits.task]).from_config(config)
    return model.float()
