"""Names, shapes and hyper-parameters of native decoders in GGUF, as llama.cpp reads them.

The facts are those of llama.cpp: its loaders of tensors (``src/models/*.cpp``) and the names of the package ``gguf``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.export.gguf.file import Value

__all__ = ["FAMILIES", "Layout", "Unwritable", "lay_out"]

# llama.cpp computes GELU in its tanh form, also for models that were trained with the error function.
_TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
_EXACT_GELU = "gelu"


class Unwritable(Exception):
    """Raised where llama.cpp has no way to express a model or a tokenizer; the message says why, as a clause."""


@dataclass(frozen=True)
class Layout:
    """A model as llama.cpp has it.

    Attributes:
        architecture: llama.cpp's name of the architecture.
        metadata: Hyper-parameters.
        tensors: Name -> weights.
        has_exact_gelu: Whether the model computes GELU by the error function and llama.cpp does not.
    """

    architecture: str
    metadata: dict[str, Value]
    tensors: dict[str, Tensor]
    has_exact_gelu: bool


@dataclass(frozen=True)
class Family:
    """How the weights of an architecture of transformers are named in GGUF.

    Attributes:
        architecture: llama.cpp's name of the architecture.
        outside: Name of a layer of transformers -> name in GGUF.
        blocks: Prefix of the blocks' names.
        inside: The same as ``outside`` for the layers of a block.
        metadata: Hyper-parameters, without the name of the architecture.
        activations: What llama.cpp computes in the feed-forward network of this architecture.
        stored: Returns a tensor of the given name (in GGUF) as llama.cpp expects it.
        complete: Adds tensors that llama.cpp requires and the model of transformers does not have.
    """

    architecture: str
    outside: Mapping[str, str]
    blocks: str
    inside: Mapping[str, str]
    metadata: Callable[[Any], dict[str, Value]]
    activations: tuple[str, ...]
    stored: Callable[[str, Tensor, Any], Tensor] = lambda _name, tensor, _config: tensor
    complete: Callable[[dict[str, Tensor], Any], dict[str, Tensor]] = lambda tensors, _config: tensors


def lay_out(model_type: str, config: Any, state: Mapping[str, Tensor]) -> Layout:
    """Return a model of transformers as llama.cpp has it.

    Args:
        model_type: Type of its configuration.
        config: Its configuration, an object of transformers.
        state: Its weights, without names that are tied to another.

    Raises:
        Unwritable: If llama.cpp has no such architecture, or computes something else in it.
    """
    if model_type not in FAMILIES:
        raise Unwritable(f"llama.cpp has no architecture for a model of the type {model_type}")
    family = FAMILIES[model_type]
    activation = str(getattr(config, "hidden_act", None) or config.activation_function)
    if activation not in family.activations:
        computed = "GELU" if _EXACT_GELU in family.activations else family.activations[0]
        raise Unwritable(
            f"llama.cpp computes {computed} in a {family.architecture} model, and this one has {activation}"
        )
    if model_type == "qwen3" and config.attention_bias:
        raise Unwritable("llama.cpp has no biases in the attention of a qwen3 model, and this one has them")
    named = {_name(family, name): tensor for name, tensor in state.items()}
    tensors = {name: family.stored(name, tensor, config) for name, tensor in named.items()}
    return Layout(
        family.architecture,
        {f"{family.architecture}.{key}": value for key, value in family.metadata(config).items()},
        family.complete(tensors, config),
        activation == _EXACT_GELU,
    )


def _name(family: Family, name: str) -> str:
    layer, _, kind = name.rpartition(".")
    if layer.startswith(family.blocks):
        number, _, part = layer.removeprefix(family.blocks).partition(".")
        known, place = family.inside.get(part), f"blk.{number}."
    else:
        known, place = family.outside.get(layer), ""
    if known is None:
        raise Unwritable(f"llama.cpp has no weight for {name} in a {family.architecture} model")
    return f"{place}{known}.{kind}"


def _rope(config: Any) -> dict[str, Any]:
    """Return the parameters of rotary positions: newer versions of transformers keep them in one dictionary."""
    old = {"rope_theta": getattr(config, "rope_theta", None) or getattr(config, "rotary_emb_base", None)}
    old["partial_rotary_factor"] = getattr(config, "rotary_pct", None)
    found = getattr(config, "rope_parameters", None) or {}
    return {**{key: value for key, value in old.items() if value is not None}, **found}


def _gpt2_metadata(config: Any) -> dict[str, Value]:
    return {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
    }


def _gpt2_stored(name: str, tensor: Tensor, _config: Any) -> Tensor:
    # The layers of GPT-2 in transformers, Conv1D, have (in, out) weights; those of llama.cpp are (out, in).
    is_layer = name.startswith("blk.") and name.endswith(".weight") and tensor.ndim == 2
    return tensor.t() if is_layer else tensor


def _gptneox_metadata(config: Any) -> dict[str, Value]:
    rope, head_size = _rope(config), config.hidden_size // config.num_attention_heads
    return {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "rope.dimension_count": int(rope.get("partial_rotary_factor", 1.0) * head_size),
        "rope.freq_base": float(rope["rope_theta"]),
        "attention.head_count": config.num_attention_heads,
        "use_parallel_residual": bool(config.use_parallel_residual),
        "attention.layer_norm_epsilon": float(config.layer_norm_eps),
    }


def _gptneox_stored(name: str, tensor: Tensor, config: Any) -> Tensor:
    if ".attn_qkv." not in name:
        return tensor
    # Here the rows are those of queries, keys and values of the first head, then of the second, and so on; in
    # llama.cpp those of all queries, then of all keys, then of all values.
    by_head: Tensor = tensor.unflatten(0, (config.num_attention_heads, 3, -1))
    return by_head.transpose(0, 1).flatten(0, 2)


def _gptneox_complete(tensors: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    width = config.hidden_size
    added = {"output.weight": tensors["token_embd.weight"]}
    for number in range(config.num_hidden_layers):
        added[f"blk.{number}.attn_qkv.bias"] = torch.zeros(3 * width)
        added[f"blk.{number}.attn_output.bias"] = torch.zeros(width)
    return added | tensors


def _llama_metadata(config: Any) -> dict[str, Value]:
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "rope.dimension_count": head_size,
        "rope.freq_base": float(_rope(config)["rope_theta"]),
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "vocab_size": config.vocab_size,
    }


def _llama_stored(name: str, tensor: Tensor, config: Any) -> Tensor:
    part = name.split(".")[-2]
    if part not in ("attn_q", "attn_k"):
        return tensor
    # transformers rotates feature i of a head with feature i + d/2, llama.cpp feature 2i with feature 2i + 1.
    heads = config.num_attention_heads if part == "attn_q" else config.num_key_value_heads
    halves: Tensor = tensor.unflatten(0, (heads, 2, -1))
    return halves.transpose(1, 2).flatten(0, 2)


_GELUS = (*_TANH_GELUS, _EXACT_GELU)
_LLAMA_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LLAMA_INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_QWEN3_INSIDE = _LLAMA_INSIDE | {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}

FAMILIES: Mapping[str, Family] = {
    "gpt2": Family(
        "gpt2",
        {
            "transformer.wte": "token_embd",
            "transformer.wpe": "position_embd",
            "transformer.ln_f": "output_norm",
            "lm_head": "output",
        },
        "transformer.h.",
        {
            "ln_1": "attn_norm",
            "attn.c_attn": "attn_qkv",
            "attn.c_proj": "attn_output",
            "ln_2": "ffn_norm",
            "mlp.c_fc": "ffn_up",
            "mlp.c_proj": "ffn_down",
        },
        _gpt2_metadata,
        _GELUS,
        _gpt2_stored,
    ),
    "gpt_neox": Family(
        "gptneox",
        {
            "gpt_neox.embed_in": "token_embd",
            "gpt_neox.final_layer_norm": "output_norm",
            "embed_out": "output",
            "lm_head": "output",
        },
        "gpt_neox.layers.",
        {
            "input_layernorm": "attn_norm",
            "attention.query_key_value": "attn_qkv",
            "attention.dense": "attn_output",
            "post_attention_layernorm": "ffn_norm",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
        },
        _gptneox_metadata,
        _GELUS,
        _gptneox_stored,
        _gptneox_complete,
    ),
    "llama": Family("llama", _LLAMA_OUTSIDE, "model.layers.", _LLAMA_INSIDE, _llama_metadata, ("silu",), _llama_stored),
    "qwen2": Family("qwen2", _LLAMA_OUTSIDE, "model.layers.", _LLAMA_INSIDE, _llama_metadata, ("silu",)),
    "qwen3": Family("qwen3", _LLAMA_OUTSIDE, "model.layers.", _QWEN3_INSIDE, _llama_metadata, ("silu",)),
}
"""Type of a configuration of transformers -> its names in GGUF. Mistral without a window is a Llama."""
