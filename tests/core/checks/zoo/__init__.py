"""Sound models, one a file: tests write them as exports, with a line or two replaced."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_NODES = (
    ("input_0", "input", {"seq_length": 56}),
    ("token_embedding_0", "token_embedding", {"vocab_size": 110, "d_model": 40}),
    ("positional_encoding_0", "positional_encoding", {"max_seq_len": 56, "d_model": 40}),
    ("layer_norm_0", "layer_norm", {}),
    ("mhsa_0", "mhsa", {"num_heads": 4, "d_model": 40, "causal": True}),
    ("residual_0", "residual", {}),
    ("layer_norm_1", "layer_norm", {}),
    ("ffn_0", "ffn", {"d_ff": 120}),
    ("residual_1", "residual", {}),
    ("layer_norm_2", "layer_norm", {}),
    ("mhsa_1", "mhsa", {"num_heads": 4, "d_model": 40, "causal": True}),
    ("residual_2", "residual", {}),
    ("layer_norm_3", "layer_norm", {}),
    ("ffn_1", "ffn", {"d_ff": 120}),
    ("residual_3", "residual", {}),
    ("layer_norm_4", "layer_norm", {}),
    ("lm_head_0", "lm_head", {"vocab_size": 110}),
)
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt": {"model_name": "NanoGPT", "vocab_size": 101, "n_embd": 36, "n_head": 3, "n_layer": 3, "block_size": 48,
            "dropout": 0.1, "tie_weights": True},
    "rotary": {"model_name": "ModernLM", "model_type": "llama", "vocab_size": 150, "hidden_size": 48,
               "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
               "max_position_embeddings": 64},
    "alibi": {"model_name": "AlibiLM", "vocab_size": 90, "d_model": 32, "num_heads": 4, "num_layers": 2,
              "max_seq_len": 64, "positions": "alibi"},
    "t5": {"model_name": "MiniT5", "model_type": "t5", "vocab_size": 120, "d_model": 32, "num_heads": 4,
           "num_layers": 2, "d_ff": 64, "decoder_start_token_id": 0, "pad_token_id": 0, "tie_word_embeddings": True},
    "classifier": {"model_name": "BertForTopic", "model_type": "bert", "vocab_size": 130, "hidden_size": 32,
                   "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64,
                   "max_position_embeddings": 48, "num_labels": 4, "pad_token_id": 0, "hidden_dropout_prob": 0.1},
    "masked": {"model_name": "MaskedLM", "architecture": "encoder-only", "vocab_size": 140, "d_model": 32, "nhead": 4,
               "num_layers": 2, "dim_feedforward": 64, "max_seq_len": 48, "dropout": 0.1, "mask_token_id": 3,
               "pad_token_id": 0},
    "time_first": {"model_name": "TimeFirstTransformer", "architecture": "encoder-decoder", "src_vocab_size": 80,
                   "tgt_vocab_size": 95, "d_model": 32, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2,
                   "dim_feedforward": 64, "max_len": 48, "dropout": 0.1},
    "torch_layers": {"model_name": "TorchGPT", "architecture": "decoder-only", "vocab_size": 100, "d_model": 32,
                     "nhead": 4, "num_layers": 2, "dim_feedforward": 64, "max_seq_len": 40, "dropout": 0.1},
    "experts": {"model_name": "MoELM", "vocab_size": 88, "d_model": 32, "n_heads": 4, "n_layers": 2, "d_ff": 48,
                "num_experts": 4, "top_k": 2, "max_seq_len": 48},
    "mixers": {"model_name": "MixLM", "architecture": "decoder-only", "vocab_size": 77, "d_model": 32,
               "num_layers": 2, "max_seq_len": 64},
    "drawn": {"version": "1.0", "model_name": "CustomTransformer",
              "nodes": [{"id": name, "type": kind, "params": params} for name, kind, params in _NODES],
              "edges": [{"source": first[0], "target": second[0]} for first, second in itertools.pairwise(_NODES)]},
}  # fmt: skip


def write_model(folder: Path, name: str, changes: dict[str, str] | None = None, **settings: Any) -> Path:
    """Write the sound model ``name`` as an export, with parts of its code and configuration replaced.

    A setting of ``...`` is left out of the configuration.
    """
    code = (_HERE / f"{name}.py").read_text()
    for old, new in (changes or {}).items():
        assert old in code, old
        code = code.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code)
    config = {key: value for key, value in {**CONFIGS[name], **settings}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
