"""Tiny decoders of transformers with random weights, and a byte-level tokenizer for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from transformer_foundry.core.data.tokenizer.byte_level import byte_alphabet
from transformer_foundry.core.export.files import NATIVE_FOLDER
from transformer_foundry.core.export.gguf.file import write_gguf
from transformer_foundry.core.export.gguf.layout import Layout, lay_out
from transformer_foundry.core.export.gguf.vocabulary import describe_vocabulary
from transformer_foundry.core.export.native.proof import randomize

VOCABULARY, LONGEST = 320, 48
TEXT = ["the value of the argument is returned", "once upon a time there was a small model of the value", "1 22 333"]

_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2,
          "max_position_embeddings": LONGEST, "intermediate_size": 48}  # fmt: skip
_GROUPED = _SIZES | {"num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-3}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": LONGEST}
_TURNED = {"rope_theta": 500.0, "partial_rotary_factor": 0.5, "rope_type": "default"}

# Type and options of a configuration, in which one thing of each has no usual value.
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2 | {"n_inner": 40, "layer_norm_epsilon": 1e-3}),
    "gpt2-untied": ("gpt2", _GPT2 | {"tie_word_embeddings": False}),
    "llama": ("llama", _GROUPED | {"rope_parameters": {"rope_theta": 300.0, "rope_type": "default"}}),
    "llama-biases": ("llama", _SIZES | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-wide-heads": ("llama", _GROUPED | {"head_dim": 12}),
    "qwen2": ("qwen2", _GROUPED | {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", _GROUPED | {"head_dim": 12}),
    "gpt_neox": ("gpt_neox", _SIZES | {"rope_parameters": _TURNED, "hidden_act": "gelu_new"}),
    "gpt_neox-in-turn": ("gpt_neox", _SIZES | {"use_parallel_residual": False, "attention_bias": False,
                         "hidden_act": "gelu_new", "tie_word_embeddings": True}),
}  # fmt: skip


def decoder(name: str) -> Any:
    """Return a model whose weights are all random: no bias is zero, no scale is one."""
    kind, options = DECODERS[name]
    config = transformers.AutoConfig.for_model(kind, **options)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomize(model, seed=3)
    return model


def state_of(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights as ``save_pretrained`` writes them, tied ones once."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        head = next(name for name, part in model.named_modules() if part is model.get_output_embeddings())
        del state[f"{head}.weight"]
    return state


def byte_tokenizer(specials: tuple[str, ...] = ("<|pad|>", "<|bos|>", "<|eos|>")) -> tokenizers.Tokenizer:
    """Return a byte-level BPE with special tokens first, as the tokenizers that are trained here."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = byte_alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 9, initial_alphabet=alphabet, special_tokens=list(specials), show_progress=False
    )
    backend.train_from_iterator(TEXT * 4, trainer)
    return backend


def native_folder(name: str, folder: Path, *, pre: str = "") -> Layout:
    """Write what ``compare_with_native`` reads: ``native/`` and ``model.gguf``.

    Args:
        name: Key of ``DECODERS``.
        folder: Where to.
        pre: Another pre-tokenizer than the right one.
    """
    native = folder / NATIVE_FOLDER
    decoder(name).save_pretrained(native)
    backend = byte_tokenizer()
    start = ("<|bos|>", 1)
    backend.post_processor = processors.TemplateProcessing(single=[start[0], "$A"], special_tokens=[start])
    backend.save(str(native / "tokenizer.json"))
    manifest = {
        "special_token_ids": {"pad": 0, "bos": 1, "eos": 2, "unk": None},
        "encoding": {"prefix": [1]},
    }
    config = transformers.AutoConfig.from_pretrained(native)
    layout = lay_out(config.model_type, config, load_file(native / "model.safetensors"))
    metadata = layout.metadata | describe_vocabulary(native, manifest, VOCABULARY)
    metadata |= {"tokenizer.ggml.pre": pre} if pre else {}
    write_gguf(folder / "model.gguf", layout.architecture, metadata, layout.tensors)
    return layout
