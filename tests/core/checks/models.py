"""Sound models as exports: each test changes one and verifies that the checks find the fault."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

GPT = """
import math
import torch
import torch.nn as nn
import torch.nn.functional as F


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=-1)
        q = q.view(B, T, self.heads, -1).transpose(1, 2)
        k = k.view(B, T, self.heads, -1).transpose(1, 2)
        v = v.view(B, T, self.heads, -1).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) / math.sqrt(C // self.heads)
        future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
        weights = self.drop(F.softmax(scores, dim=-1))
        return self.out((weights @ v).transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, width, heads, inner, dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class SmallGPT(nn.Module):
    def __init__(self, vocab_size, d_model, num_heads, num_layers, d_ff, max_seq_len, dropout):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.places = nn.Embedding(max_seq_len, d_model)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.apply(self.start)
        self.head.weight = self.tokens.weight

    @staticmethod
    def start(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, input_ids, labels=None):
        T = input_ids.shape[1]
        where = torch.arange(T, device=input_ids.device)
        x = self.drop(self.tokens(input_ids) + self.places(where))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits = self.head(x)
        if labels is None:
            return logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        return {"loss": loss, "logits": logits}
"""
GPT_CONFIG: dict[str, Any] = {
    "model_name": "SmallGPT", "architecture": "decoder-only", "vocab_size": 97, "d_model": 32, "num_heads": 4,
    "num_layers": 2, "d_ff": 80, "max_seq_len": 48, "dropout": 0.1, "tie_weights": True,
}  # fmt: skip

GRAPH = """
import torch
import torch.nn as nn


class CustomTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding_0_token = nn.Embedding(90, 32)
        self.embedding_0_pos = nn.Embedding(40, 32)
        self.mhsa_0 = nn.MultiheadAttention(embed_dim=32, num_heads=4, batch_first=True)
        self.layernorm_0 = nn.LayerNorm(32)
        self.ffn_0 = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.layernorm_1 = nn.LayerNorm(32)
        self.mhsa_1 = nn.MultiheadAttention(embed_dim=32, num_heads=4, batch_first=True)
        self.layernorm_2 = nn.LayerNorm(32)
        self.output_0 = nn.Linear(32, 90)

    def forward(self, input_0_tokens):
        B, T = input_0_tokens.shape
        positions = torch.arange(T, device=input_0_tokens.device)
        embedding_0_x = self.embedding_0_token(input_0_tokens) + self.embedding_0_pos(positions)
        causal = torch.ones(T, T, dtype=torch.bool, device=input_0_tokens.device).triu(1)
        mhsa_0_output, _ = self.mhsa_0(embedding_0_x, embedding_0_x, embedding_0_x, attn_mask=causal)
        residual_0_output = embedding_0_x + mhsa_0_output
        layernorm_0_output = self.layernorm_0(residual_0_output)
        ffn_0_output = self.ffn_0(layernorm_0_output)
        residual_1_output = layernorm_0_output + ffn_0_output
        layernorm_1_output = self.layernorm_1(residual_1_output)
        mhsa_1_output, _ = self.mhsa_1(layernorm_1_output, layernorm_1_output, layernorm_1_output, attn_mask=causal)
        residual_2_output = layernorm_1_output + mhsa_1_output
        layernorm_2_output = self.layernorm_2(residual_2_output)
        return self.output_0(layernorm_2_output)
"""
_NODES = (
    ("input_0", "input", {"seq_length": 40}),
    ("embedding_0", "embedding", {"vocab_size": 90, "d_model": 32, "max_seq_len": 40}),
    ("mhsa_0", "mhsa", {"num_heads": 4, "causal": True}),
    ("residual_0", "residual", {}),
    ("layernorm_0", "layernorm", {"eps": 1e-05}),
    ("ffn_0", "ffn", {"d_ff": 64}),
    ("residual_1", "residual", {}),
    ("layernorm_1", "layernorm", {"eps": 1e-05}),
    ("mhsa_1", "mhsa", {"num_heads": 4, "causal": True}),
    ("residual_2", "residual", {}),
    ("layernorm_2", "layernorm", {"eps": 1e-05}),
    ("output_0", "output", {"vocab_size": 90}),
)
GRAPH_CONFIG: dict[str, Any] = {
    "model_name": "CustomTransformer",
    "nodes": [{"id": name, "type": kind, "params": params} for name, kind, params in _NODES],
    "edges": [[first[0], second[0]] for first, second in itertools.pairwise(_NODES)],
}

ROTARY = """
import torch
import torch.nn as nn
import torch.nn.functional as F


def turn(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Layer(nn.Module):
    def __init__(self, width, heads, groups):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.wq = nn.Linear(width, width, bias=False)
        self.wkv = nn.Linear(width, 2 * groups * self.size, bias=False)
        self.wo = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x, cos, sin):
        B, T, C = x.shape
        h = self.norm1(x)
        q = self.wq(h).view(B, T, self.heads, self.size).transpose(1, 2)
        k, v = self.wkv(h).view(B, T, 2 * self.groups, self.size).transpose(1, 2).chunk(2, dim=1)
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        k = k.repeat_interleave(self.heads // self.groups, dim=1)
        v = v.repeat_interleave(self.heads // self.groups, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.scale * self.wo(y.transpose(1, 2).reshape(B, T, C))
        h = self.norm2(x)
        return x + self.scale * self.down(F.silu(self.gate(h)) * self.up(h))


class RotaryLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, heads = config["hidden_size"], config["num_attention_heads"]
        self.tokens = nn.Embedding(config["vocab_size"], width)
        self.layers = nn.ModuleList(
            Layer(width, heads, config["num_key_value_heads"]) for _ in range(config["num_hidden_layers"])
        )
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, config["vocab_size"], bias=False)
        half = width // heads // 2
        rates = 10000.0 ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(config["max_position_embeddings"]), rates)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids):
        x = self.tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return (self.head(self.norm(x)),)
"""
ROTARY_CONFIG: dict[str, Any] = {
    "model_name": "RotaryLM", "vocab_size": 83, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "max_position_embeddings": 64, "rope_theta": 10000.0, "model_type": "llama",
}  # fmt: skip

ENCODER = """
import torch
import torch.nn as nn


class Encoder(nn.Module):
    def __init__(self, vocab_size, d_model, num_heads, num_layers, max_seq_len, num_labels=None, dropout=0.1, **rest):
        super().__init__()
        self.word = nn.Embedding(vocab_size, d_model)
        self.position = nn.Parameter(torch.randn(1, max_seq_len, d_model) * 0.02)
        layer = nn.TransformerEncoderLayer(d_model, num_heads, 2 * d_model, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, num_labels or vocab_size)
        self.num_labels = num_labels

    def forward(self, input_ids, attention_mask=None):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        x = self.word(input_ids) + self.position[:, : input_ids.shape[1]]
        x = self.layers(x, src_key_padding_mask=attention_mask == 0)
        if self.num_labels:
            keep = attention_mask.unsqueeze(-1).to(x.dtype)
            x = (x * keep).sum(1) / keep.sum(1).clamp(min=1)
        return {"logits": self.head(x)}
"""
ENCODER_CONFIG: dict[str, Any] = {
    "model_name": "Encoder", "architecture": "encoder-only", "vocab_size": 79, "d_model": 32, "num_heads": 4,
    "num_layers": 2, "max_seq_len": 40, "dropout": 0.1, "pad_token_id": 0,
}  # fmt: skip
CLASSIFIER_CONFIG: dict[str, Any] = {**ENCODER_CONFIG, "num_labels": 5}

TRANSLATOR = """
import torch
import torch.nn as nn


class Translator(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers, max_seq_len, dropout=0.1, **rest):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, d_model)
        self.place = nn.Embedding(max_seq_len, d_model)
        self.body = nn.Transformer(d_model, nhead, num_layers, num_layers, 2 * d_model, dropout, batch_first=True)
        self.head = nn.Linear(d_model, vocab_size)

    def look_up(self, ids):
        return self.embed(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, input_ids, decoder_input_ids, attention_mask=None):
        T = decoder_input_ids.shape[1]
        future = torch.ones(T, T, dtype=torch.bool, device=input_ids.device).triu(1)
        pad = None if attention_mask is None else attention_mask == 0
        y = self.body(
            self.look_up(input_ids), self.look_up(decoder_input_ids), tgt_mask=future,
            src_key_padding_mask=pad, memory_key_padding_mask=pad,
        )
        return self.head(y)
"""
TRANSLATOR_CONFIG: dict[str, Any] = {
    "model_name": "Translator", "architecture": "encoder-decoder", "vocab_size": 71, "d_model": 32, "nhead": 4,
    "num_layers": 2, "max_seq_len": 40, "dropout": 0.1,
}  # fmt: skip

SOUND: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt": (GPT, GPT_CONFIG),
    "graph": (GRAPH, GRAPH_CONFIG),
    "rotary": (ROTARY, ROTARY_CONFIG),
    "encoder": (ENCODER, ENCODER_CONFIG),
    "classifier": (ENCODER, CLASSIFIER_CONFIG),
    "translator": (TRANSLATOR, TRANSLATOR_CONFIG),
}


def write_export(folder: Path, name: str, changes: dict[str, str] | None = None, **settings: Any) -> Path:
    """Write the sound model ``name`` with parts of its code and configuration replaced."""
    code, config = SOUND[name]
    for old, new in (changes or {}).items():
        assert old in code, old
        code = code.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code)
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder
