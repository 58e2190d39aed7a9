# ruff: noqa: E501  (models in the styles that people write, a few lines each)
"""Sound models in public styles, written anew: minimal GPTs, course notebooks, recurrences, unusual calls and outputs.

``STYLES``: name -> (source of ``model.py``, config or other files). Parts that several share come from ``PARTS``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

V, L = 40, 24

HEAD = """
import math
from dataclasses import dataclass, field
from typing import NamedTuple, Optional
import torch
import torch.nn as nn
import torch.nn.functional as F
"""

PARTS = """
class Block(nn.Module):
    def __init__(self, d, h, causal=True, p=0.1):
        super().__init__()
        self.h, self.causal, self.p = h, causal, p
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d), nn.Dropout(p))

    def forward(self, x, keep=None):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.h, d // self.h).transpose(1, 2) for y in self.qkv(self.n1(x)).chunk(3, -1))
        mask = torch.ones(t, t, dtype=torch.bool, device=x.device)
        mask = (mask.tril() if self.causal else mask)[None, None]
        if keep is not None:
            mask = mask & keep[:, None, None].bool()
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.p if self.training else 0.0)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.n2(x))


class Body(nn.Module):
    def __init__(self, vocab_size=40, d=16, h=2, n=2, longest=24, causal=True):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab_size, d), nn.Embedding(longest, d)
        self.blocks = nn.ModuleList(Block(d, h, causal) for _ in range(n))
        self.norm = nn.LayerNorm(d)

    def states(self, ids, keep=None):
        x = self.tok(ids) + self.pos(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x, keep)
        return self.norm(x)
"""

CONFIG: dict[str, Any] = {"vocab_size": V}


def _lm(
    forward: str, *, init: str = "self.head = nn.Linear(16, 40, bias=False)", before: str = "", causal: bool = True
) -> str:
    """A language model on ``Body`` with this forward."""
    body = "\n        ".join(forward.strip().splitlines())
    return f"{HEAD}{PARTS}\n{before}\n\nclass Net(Body):\n    def __init__(self):\n        super().__init__(causal={causal})\n        {init}\n\n    def forward(self, {body}\n"


STYLES: dict[str, tuple[str, dict[str, Any]]] = {}

# Minimal GPTs

STYLES["minimal GPT: fused projection, registered mask, tied head, last logits without targets"] = (
    HEAD
    + """
class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.n_embd % config.n_head == 0
        self.c_attn, self.c_proj = nn.Linear(config.n_embd, 3 * config.n_embd), nn.Linear(config.n_embd, config.n_embd)
        self.attn_dropout, self.resid_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout)
        self.n_head, self.n_embd = config.n_head, config.n_embd
        self.register_buffer("bias", torch.tril(torch.ones(config.block_size, config.block_size)).view(1, 1, config.block_size, config.block_size))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k, q, v = (y.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for y in (k, q, v))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        y = self.attn_dropout(F.softmax(att, dim=-1)) @ v
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C)))

class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(config.n_embd, 4 * config.n_embd), nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x))))

class GPTBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = nn.LayerNorm(config.n_embd), CausalSelfAttention(config), nn.LayerNorm(config.n_embd), MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

@dataclass
class GPTConfig:
    block_size: int = 24
    vocab_size: int = 40
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 16
    dropout: float = 0.1

class GPT(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(dict(wte=nn.Embedding(config.vocab_size, config.n_embd), wpe=nn.Embedding(config.block_size, config.n_embd),
                                              drop=nn.Dropout(config.dropout), h=nn.ModuleList([GPTBlock(config) for _ in range(config.n_layer)]), ln_f=nn.LayerNorm(config.n_embd)))
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx, targets=None):
        b, t = idx.size()
        assert t <= self.config.block_size, f"Cannot forward sequence of length {t}"
        pos = torch.arange(0, t, dtype=torch.long, device=idx.device)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(pos))
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is not None:
            logits = self.lm_head(x)
            return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return self.lm_head(x[:, [-1], :]), None
""",
    {"block_size": 24, "vocab_size": V, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.1},
)
STYLES["ids flattened by view"] = (
    _lm("""input_ids):
    B, T = input_ids.shape
    return self.head(self.states(input_ids.view(-1).view(B, T)))"""),
    CONFIG,
)
STYLES["limit under an unknown name, kept by an assert"] = (
    HEAD
    + PARTS
    + """
class Net(nn.Module):
    def __init__(self, vocab_size, span):
        super().__init__()
        self.span, self.body, self.head = span, Body(vocab_size, longest=512), nn.Linear(16, vocab_size)

    def forward(self, x):
        assert x.shape[1] <= self.span, "sequence too long"
        return self.head(self.body.states(x))
""",
    {"vocab_size": V, "span": 18},
)
STYLES["heads in a list, one module each"] = (
    HEAD
    + """
class Head(nn.Module):
    def __init__(self, width, size, longest):
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(width, size, bias=False) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(longest, longest)))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        T = x.shape[1]
        k, q = self.key(x), self.query(x)
        wei = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
        wei = wei.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return self.dropout(F.softmax(wei, dim=-1)) @ self.value(x)

class Layer(nn.Module):
    def __init__(self, width, heads, longest):
        super().__init__()
        self.heads = nn.ModuleList([Head(width, width // heads, longest) for _ in range(heads)])
        self.proj = nn.Linear(width, width)
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width), nn.Dropout(0.1))
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        y = self.ln1(x)
        x = x + self.proj(torch.cat([h(y) for h in self.heads], dim=-1))
        return x + self.net(self.ln2(x))

class CourseModel(nn.Module):
    def __init__(self, vocab_size, n_embd, n_head, n_layer, block_size):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.Sequential(*[Layer(n_embd, n_head, block_size) for _ in range(n_layer)])
        self.ln_f, self.lm_head = nn.LayerNorm(n_embd), nn.Linear(n_embd, vocab_size)

    def forward(self, idx):
        x = self.tokens(idx) + self.places(torch.arange(idx.shape[1], device=idx.device))
        return self.lm_head(self.ln_f(self.blocks(x)))
""",
    {"vocab_size": V, "n_embd": 16, "n_head": 2, "n_layer": 2, "block_size": 24},
)

ROTARY = """
def rotate(x, base=10000.0):
    t, d = x.shape[-2], x.shape[-1]
    angle = torch.arange(t, device=x.device)[:, None] / base ** (torch.arange(0, d, 2, device=x.device) / d)
    sin, cos = angle.sin(), angle.cos()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).type_as(x) * self.weight
"""
STYLES["llama: rotary, RMS norm, SwiGLU, grouped keys"] = (
    HEAD
    + ROTARY
    + """
class Layer(nn.Module):
    def __init__(self, d, h, kv):
        super().__init__()
        self.h, self.kv, self.hd = h, kv, d // h
        self.wq, self.wk, self.wv, self.wo = nn.Linear(d, d, bias=False), nn.Linear(d, kv * self.hd, bias=False), nn.Linear(d, kv * self.hd, bias=False), nn.Linear(d, d, bias=False)
        self.w1, self.w2, self.w3 = nn.Linear(d, 32, bias=False), nn.Linear(32, d, bias=False), nn.Linear(d, 32, bias=False)
        self.attention_norm, self.ffn_norm = RMSNorm(d), RMSNorm(d)

    def forward(self, x):
        b, t, d = x.shape
        y = self.attention_norm(x)
        q = rotate(self.wq(y).view(b, t, self.h, self.hd).transpose(1, 2))
        k = rotate(self.wk(y).view(b, t, self.kv, self.hd).transpose(1, 2)).repeat_interleave(self.h // self.kv, 1)
        v = self.wv(y).view(b, t, self.kv, self.hd).transpose(1, 2).repeat_interleave(self.h // self.kv, 1)
        x = x + self.wo(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))
        y = self.ffn_norm(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))

class Transformer(nn.Module):
    def __init__(self, vocab_size=40, dim=16, n_layers=2, n_heads=4, n_kv_heads=2):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(Layer(dim, n_heads, n_kv_heads) for _ in range(n_layers))
        self.norm, self.output = RMSNorm(dim), nn.Linear(dim, vocab_size, bias=False)

    def forward(self, tokens):
        h = self.tok_embeddings(tokens)
        for layer in self.layers:
            h = layer(h)
        return self.output(self.norm(h)).float()
""",
    {"vocab_size": V, "dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2},
)
STYLES["rotary by complex numbers"] = (
    HEAD
    + PARTS
    + """
class Net(Body):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        angle = torch.outer(torch.arange(24).float(), 1.0 / 100 ** (torch.arange(0, 16, 2) / 16))
        self.register_buffer("freqs", torch.polar(torch.ones_like(angle), angle), persistent=False)
        self.head = nn.Linear(16, 40)

    def turn(self, x):
        x_ = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(x_ * self.freqs[: x.shape[1]]).flatten(-2).type_as(x)

    def forward(self, ids):
        x = self.states(ids)
        return self.head(x + self.o(F.scaled_dot_product_attention(self.turn(self.q(x)), self.turn(self.k(x)), self.v(x), is_causal=True)))
""",
    CONFIG,
)
STYLES["ALiBi, queries and keys normalized"] = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self, vocab_size=40, dim=16, heads=2, depth=2):
        super().__init__()
        self.heads = heads
        self.token_emb = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList([nn.ModuleDict(dict(norm=nn.LayerNorm(dim), qkv=nn.Linear(dim, 3 * dim), out=nn.Linear(dim, dim), qn=nn.LayerNorm(dim // heads), kn=nn.LayerNorm(dim // heads),
                                     ff=nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, dim)))) for _ in range(depth)])
        self.to_logits = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, vocab_size))
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, heads + 1).float(), persistent=False)

    def forward(self, x):
        b, n = x.shape
        i = torch.arange(n, device=x.device)
        bias = (i[None] - i[:, None]) * self.slopes[:, None, None]
        bias = bias.masked_fill(i[None] > i[:, None], float("-inf"))
        x = self.token_emb(x)
        for layer in self.layers:
            q, k, v = (y.view(b, n, self.heads, -1).transpose(1, 2) for y in layer["qkv"](layer["norm"](x)).chunk(3, -1))
            q, k = layer["qn"](q), layer["kn"](k)
            att = ((q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1]) + bias).softmax(-1)
            x = x + layer["out"]((att @ v).transpose(1, 2).reshape(b, n, -1))
            x = x + layer["ff"](x)
        return self.to_logits(x)
""",
    CONFIG,
)
STYLES["parallel attention and feed-forward, one norm"] = (
    HEAD
    + PARTS.replace(
        "x = x + self.proj(y.transpose(1, 2).reshape(b, t, d))\n        return x + self.mlp(self.n2(x))",
        "return x + self.proj(y.transpose(1, 2).reshape(b, t, d)) + self.mlp(self.n2(x))",
    )
    + """
class Net(Body):
    def __init__(self):
        super().__init__()
        self.embed_out = nn.Linear(16, 40, bias=False)

    def forward(self, input_ids):
        return self.embed_out(self.states(input_ids))
""",
    CONFIG,
)
STYLES["mixture of experts, balance loss beside the logits"] = (
    HEAD
    + PARTS
    + """
class Experts(nn.Module):
    def __init__(self, d, n):
        super().__init__()
        self.gate = nn.Linear(d, n, bias=False)
        self.up, self.down = nn.Parameter(torch.randn(n, d, 2 * d) * 0.2), nn.Parameter(torch.randn(n, 2 * d, d) * 0.2)

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        y = torch.einsum("btd,ndf->btnf", x, self.up).relu()
        y = torch.einsum("btnf,nfd->btnd", y, self.down)
        return (weights[..., None] * y).sum(2), weights.mean((0, 1)).pow(2).sum() * weights.shape[-1]

class Net(Body):
    def __init__(self):
        super().__init__()
        self.norm_x, self.experts, self.head = nn.LayerNorm(16), Experts(16, 3), nn.Linear(16, 40)

    def forward(self, input_ids):
        x = self.states(input_ids)
        y, aux = self.experts(self.norm_x(x))
        return {"logits": self.head(x + y), "aux_loss": aux}
""",
    CONFIG,
)

# Annotated transformer, torch's own layers

ANNOTATED = (
    HEAD
    + """
def attention(query, key, value, mask=None):
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask == 0, torch.finfo(scores.dtype).min)
    return torch.matmul(scores.softmax(dim=-1), value)

class MultiHeadedAttention(nn.Module):
    def __init__(self, h, d):
        super().__init__()
        self.h, self.linears = h, nn.ModuleList(nn.Linear(d, d) for _ in range(4))

    def forward(self, query, key, value, mask=None):
        n = query.size(0)
        query, key, value = (lin(x).view(n, -1, self.h, x.size(-1) // self.h).transpose(1, 2) for lin, x in zip(self.linears, (query, key, value)))
        x = attention(query, key, value, mask if mask is None else mask.unsqueeze(1))
        return self.linears[-1](x.transpose(1, 2).contiguous().view(n, -1, self.h * query.size(-1)))

class SublayerConnection(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(size), nn.Dropout(0.1)

    def forward(self, x, sublayer):
        return x + self.dropout(sublayer(self.norm(x)))

class PositionalEncoding(nn.Module):
    def __init__(self, d, longest=64):
        super().__init__()
        pe, position = torch.zeros(longest, d), torch.arange(0, longest).unsqueeze(1)
        div = torch.exp(torch.arange(0, d, 2) * -(math.log(10000.0) / d))
        pe[:, 0::2], pe[:, 1::2] = torch.sin(position * div), torch.cos(position * div)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return x + self.pe[:, : x.size(1)].requires_grad_(False)

def feed_forward(d):
    return nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * d, d))
"""
)
STYLES["annotated encoder-decoder"] = (
    ANNOTATED
    + """
class EncoderLayer(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.self_attn, self.ff = MultiHeadedAttention(h, d), feed_forward(d)
        self.sub = nn.ModuleList(SublayerConnection(d) for _ in range(2))

    def forward(self, x, mask):
        x = self.sub[0](x, lambda y: self.self_attn(y, y, y, mask))
        return self.sub[1](x, self.ff)

class DecoderLayer(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.self_attn, self.src_attn, self.ff = MultiHeadedAttention(h, d), MultiHeadedAttention(h, d), feed_forward(d)
        self.sub = nn.ModuleList(SublayerConnection(d) for _ in range(3))

    def forward(self, x, memory, src_mask, tgt_mask):
        x = self.sub[0](x, lambda y: self.self_attn(y, y, y, tgt_mask))
        x = self.sub[1](x, lambda y: self.src_attn(y, memory, memory, src_mask))
        return self.sub[2](x, self.ff)

class EncoderDecoder(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=16, h=2, N=1):
        super().__init__()
        self.src_embed, self.tgt_embed, self.position = nn.Embedding(src_vocab, d_model), nn.Embedding(tgt_vocab, d_model), PositionalEncoding(d_model)
        self.encoder, self.decoder = nn.ModuleList(EncoderLayer(d_model, h) for _ in range(N)), nn.ModuleList(DecoderLayer(d_model, h) for _ in range(N))
        self.norm_e, self.norm_d, self.proj = nn.LayerNorm(d_model), nn.LayerNorm(d_model), nn.Linear(d_model, tgt_vocab)

    def forward(self, src, tgt, src_mask=None):
        x, y = self.position(self.src_embed(src)), self.position(self.tgt_embed(tgt))
        src_mask = None if src_mask is None else src_mask.unsqueeze(1)
        for layer in self.encoder:
            x = layer(x, src_mask)
        x, future = self.norm_e(x), torch.ones(1, tgt.size(1), tgt.size(1), device=tgt.device).tril()
        for layer in self.decoder:
            y = layer(y, x, src_mask, future)
        return self.proj(self.norm_d(y))
""",
    {"src_vocab": V, "tgt_vocab": V},
)
STYLES["torch encoder-decoder, batch first, key padding"] = (
    HEAD
    + """
class Seq2Seq(nn.Module):
    def __init__(self, src_vocab_size=40, tgt_vocab_size=40, d_model=16):
        super().__init__()
        self.src, self.tgt, self.pos = nn.Embedding(src_vocab_size, d_model), nn.Embedding(tgt_vocab_size, d_model), nn.Embedding(24, d_model)
        self.transformer = nn.Transformer(d_model, 2, 1, 1, 32, 0.1, batch_first=True, norm_first=True)
        self.generator = nn.Linear(d_model, tgt_vocab_size)

    def place(self, table, ids):
        return table(ids) + self.pos(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, src, tgt, src_key_padding_mask=None):
        future = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool, device=tgt.device).triu(1)
        out = self.transformer(self.place(self.src, src), self.place(self.tgt, tgt), tgt_mask=future, src_key_padding_mask=src_key_padding_mask, memory_key_padding_mask=src_key_padding_mask)
        return self.generator(out)
""",
    {"src_vocab_size": V, "tgt_vocab_size": V, "d_model": 16},
)
STYLES["tutorial: time first, sinusoids, causal mask made inside"] = (
    HEAD
    + """
class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=64):
        super().__init__()
        position, div = torch.arange(max_len).unsqueeze(1), torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2], pe[:, 0, 1::2] = torch.sin(position * div), torch.cos(position * div)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[: x.size(0)]

class TransformerModel(nn.Module):
    def __init__(self, ntoken, d_model, nhead, d_hid, nlayers, dropout=0.1):
        super().__init__()
        self.pos_encoder, self.embedding = PositionalEncoding(d_model), nn.Embedding(ntoken, d_model)
        self.transformer_encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(d_model, nhead, d_hid, dropout), nlayers)
        self.d_model, self.linear = d_model, nn.Linear(d_model, ntoken)
        self.embedding.weight.data.uniform_(-0.1, 0.1)

    def forward(self, src, src_mask=None):
        x = self.pos_encoder(self.embedding(src) * math.sqrt(self.d_model))
        if src_mask is None:
            src_mask = nn.Transformer.generate_square_subsequent_mask(len(src)).to(src.device)
        return self.linear(self.transformer_encoder(x, src_mask))
""",
    {"ntoken": V, "d_model": 16, "nhead": 2, "d_hid": 32, "nlayers": 2},
)
STYLES["torch encoder-decoder, time first"] = (
    HEAD
    + """
class Seq2SeqTransformer(nn.Module):
    def __init__(self, src_vocab_size=40, tgt_vocab_size=40, emb_size=16):
        super().__init__()
        self.src_tok_emb, self.tgt_tok_emb = nn.Embedding(src_vocab_size, emb_size), nn.Embedding(tgt_vocab_size, emb_size)
        self.positions = nn.Embedding(24, emb_size)
        self.transformer = nn.Transformer(emb_size, 2, 1, 1, 32, 0.1)
        self.generator = nn.Linear(emb_size, tgt_vocab_size)

    def place(self, table, ids):
        return table(ids) + self.positions(torch.arange(len(ids), device=ids.device))[:, None]

    def forward(self, src, trg):
        mask = torch.ones(len(trg), len(trg), dtype=torch.bool, device=trg.device).triu(1)
        return self.generator(self.transformer(self.place(self.src_tok_emb, src), self.place(self.tgt_tok_emb, trg), tgt_mask=mask))
""",
    {"src_vocab_size": V, "tgt_vocab_size": V, "emb_size": 16},
)
STYLES["LSTM, time first"] = (
    HEAD
    + """
class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid):
        super().__init__()
        self.drop, self.encoder, self.rnn, self.decoder = nn.Dropout(0.1), nn.Embedding(ntoken, ninp), nn.LSTM(ninp, nhid, 1), nn.Linear(nhid, ntoken)

    def forward(self, input):
        output, hidden = self.rnn(self.drop(self.encoder(input)))
        return self.decoder(self.drop(output))
""",
    {"ntoken": V, "ninp": 16, "nhid": 16},
)
STYLES["GRU that returns logits and its state"] = (
    HEAD
    + """
class CharRNN(nn.Module):
    def __init__(self, vocab_size=40, hidden=16):
        super().__init__()
        self.embed, self.gru, self.fc = nn.Embedding(vocab_size, hidden), nn.GRU(hidden, hidden, batch_first=True), nn.Linear(hidden, vocab_size)

    def forward(self, x, h=None):
        out, h = self.gru(self.embed(x), h)
        return self.fc(out), h
""",
    CONFIG,
)
STYLES["torch encoder with a causal mask"] = (
    HEAD
    + """
class DecoderLM(nn.Module):
    def __init__(self, vocab_size=40, max_len=24):
        super().__init__()
        self.emb, self.pos = nn.Embedding(vocab_size, 16), nn.Parameter(torch.randn(1, max_len, 16) * 0.02)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.1, activation="gelu", batch_first=True, norm_first=True), 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, vocab_size)

    def forward(self, tokens):
        n = tokens.size(1)
        mask = torch.full((n, n), float("-inf"), device=tokens.device).triu(1)
        return self.head(self.layers(self.emb(tokens) + self.pos[:, :n], mask=mask))
""",
    {"vocab_size": V, "max_len": 24},
)

# Recurrences and convolutions

STYLES["RWKV: time mixing with a decayed state"] = (
    HEAD
    + """
class Mix(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.mu, self.decay, self.first = nn.Parameter(torch.linspace(0.2, 0.8, 3 * d).view(3, d)), nn.Parameter(torch.linspace(-2, 1, d)), nn.Parameter(torch.zeros(d))
        self.key, self.value, self.gate, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))

    def forward(self, x):
        before = F.pad(x, (0, 0, 1, -1))
        xk, xv, xr = (x * m + before * (1 - m) for m in self.mu)
        k, v, r = self.key(xk).clamp(max=20).exp(), self.value(xv), self.gate(xr).sigmoid()
        w, num, den, out = torch.exp(-self.decay.exp()), torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            now = k[:, t] * self.first.exp()
            out.append((num + now * v[:, t]) / (den + now + 1e-6))
            num, den = w * num + k[:, t] * v[:, t], w * den + k[:, t]
        return self.out(r * torch.stack(out, 1))

class Channel(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.mu, self.key, self.value = nn.Parameter(torch.full((d,), 0.5)), nn.Linear(d, 2 * d, bias=False), nn.Linear(2 * d, d, bias=False)

    def forward(self, x):
        return self.value(self.key(x * self.mu + F.pad(x, (0, 0, 1, -1)) * (1 - self.mu)).relu().square())

class RWKV(nn.Module):
    def __init__(self, vocab_size, n_embd, n_layer):
        super().__init__()
        self.emb = nn.Embedding(vocab_size, n_embd)
        self.blocks = nn.ModuleList([nn.ModuleList([nn.LayerNorm(n_embd), Mix(n_embd), nn.LayerNorm(n_embd), Channel(n_embd)]) for _ in range(n_layer)])
        self.ln_out, self.head = nn.LayerNorm(n_embd), nn.Linear(n_embd, vocab_size, bias=False)

    def forward(self, idx):
        x = self.emb(idx)
        for ln1, att, ln2, ffn in self.blocks:
            x = x + att(ln1(x))
            x = x + ffn(ln2(x))
        return self.head(self.ln_out(x))
""",
    {"vocab_size": V, "n_embd": 16, "n_layer": 2},
)
STYLES["small selective state space model"] = (
    HEAD
    + """
class SSM(nn.Module):
    def __init__(self, d, n=4):
        super().__init__()
        self.inp, self.conv, self.out = nn.Linear(d, 2 * d), nn.Conv1d(d, d, 3, padding=2, groups=d), nn.Linear(d, d)
        self.to_dt, self.to_bc, self.n = nn.Linear(d, d), nn.Linear(d, 2 * n), n
        self.A_log, self.D = nn.Parameter(torch.log(torch.arange(1, n + 1).float()).repeat(d, 1)), nn.Parameter(torch.ones(d))

    def forward(self, x):
        x, z = self.inp(x).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, (B, C), A = F.softplus(self.to_dt(x)), self.to_bc(x).chunk(2, -1), -self.A_log.exp()
        h, ys = torch.zeros(x.shape[0], x.shape[2], self.n, device=x.device), []
        for t in range(x.shape[1]):
            h = torch.exp(dt[:, t, :, None] * A) * h + dt[:, t, :, None] * B[:, t, None] * x[:, t, :, None]
            ys.append((h * C[:, t, None]).sum(-1))
        return self.out((torch.stack(ys, 1) + self.D * x) * F.silu(z))

class MambaLM(nn.Module):
    def __init__(self, vocab_size, d_model=16, n_layer=2):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.layers = nn.ModuleList([nn.Sequential(nn.LayerNorm(d_model), SSM(d_model)) for _ in range(n_layer)])
        self.norm_f, self.lm_head = nn.LayerNorm(d_model), nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.lm_head(self.norm_f(x))
""",
    CONFIG,
)
STYLES["gated convolutions, padded on the left"] = (
    HEAD
    + """
class ConvLM(nn.Module):
    def __init__(self, vocab_size=40, d=16, k=3, layers=3):
        super().__init__()
        self.emb, self.k = nn.Embedding(vocab_size, d), k
        self.convs = nn.ModuleList(nn.Conv1d(d, 2 * d, k) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(d), nn.Linear(d, vocab_size)

    def forward(self, ids):
        x = self.emb(ids).transpose(1, 2)
        for conv in self.convs:
            x = x + F.glu(conv(F.pad(x, (self.k - 1, 0))), dim=1)
        return self.out(self.norm(x.transpose(1, 2)))
""",
    CONFIG,
)
STYLES["linear attention by cumulative sums"] = (
    HEAD
    + """
class Linear(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.v, self.o, self.n = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d), nn.LayerNorm(d)

    def forward(self, x):
        y = self.n(x)
        q, k, v = F.elu(self.q(y)) + 1, F.elu(self.k(y)) + 1, self.v(y)
        state, total = torch.einsum("btd,bte->btde", k, v).cumsum(1), k.cumsum(1)
        return x + self.o(torch.einsum("btd,btde->bte", q, state) / (q * total).sum(-1, keepdim=True))

class Net(nn.Module):
    def __init__(self, vocab_size=40, width=16):
        super().__init__()
        self.emb, self.layers, self.head = nn.Embedding(vocab_size, width), nn.Sequential(Linear(width), Linear(width)), nn.Linear(width, vocab_size)
        self.ff = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, width))

    def forward(self, tokens):
        x = self.layers(self.emb(tokens))
        return self.head(x + self.ff(x))
""",
    CONFIG,
)

# Unusual calls

STYLES["one mapping"] = (
    _lm("""batch):
    return {"logits": self.head(self.states(batch["input_ids"], batch.get("attention_mask")))}"""),
    CONFIG,
)
STYLES["one mapping with loss and attributes"] = (
    _lm("""batch):
    logits = self.head(self.states(batch.input_ids))
    if "labels" in batch:
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100)
        return {"loss": loss, "logits": logits}
    return {"logits": logits}"""),
    CONFIG,
)
STYLES["next word by mean of a window"] = (
    _lm("""context):
    return self.head(self.states(context)[:, -1])"""),
    CONFIG,
)
STYLES["next word by an LSTM's last state"] = (
    HEAD
    + """
class NextWord(nn.Module):
    def __init__(self, vocab_size=40):
        super().__init__()
        self.embedding, self.lstm, self.fc = nn.Embedding(vocab_size, 16), nn.LSTM(16, 16, batch_first=True), nn.Linear(16, vocab_size)

    def forward(self, x):
        out, _ = self.lstm(self.embedding(x))
        return self.fc(out[:, -1, :])
""",
    CONFIG,
)
STYLES["logits of the last position only, kept dimension"] = (
    _lm("""tokens):
    return self.head(self.states(tokens)[:, -1:])"""),
    CONFIG,
)
STYLES["positions and segments as arguments"] = (
    _lm(
        """input_ids, segment_label, position_ids):
    x = self.tok(input_ids) + self.pos(position_ids) + self.seg(segment_label)
    for block in self.blocks:
        x = block(x)
    return self.head(self.norm(x))""",
        init="self.head, self.seg = nn.Linear(16, 40), nn.Embedding(2, 16)",
        causal=False,
    ),
    CONFIG | {"task": "masked_lm"},
)
STYLES["causal mask as a required argument"] = (
    _lm(
        """x, causal_mask):
    y = self.states(x)
    scores = (self.q(y) @ self.k(y).transpose(-1, -2) / 4.0).masked_fill(causal_mask == 0, float("-inf"))
    return self.head(y + scores.softmax(-1) @ self.v(y))""",
        init="self.head, self.q, self.k, self.v = nn.Linear(16, 40), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)",
    ),
    CONFIG,
)
STYLES["loss inside, logits first"] = (
    _lm("""input_ids, attention_mask=None, labels=None):
    logits = self.head(self.states(input_ids, attention_mask))
    loss = None
    if labels is not None:
        loss = nn.CrossEntropyLoss()(logits[:, :-1].reshape(-1, 40), labels[:, 1:].reshape(-1))
    return logits, loss"""),
    CONFIG,
)
STYLES["cache switched off"] = (
    _lm("""input_ids, past=None, use_cache=False):
    x = self.states(input_ids)
    return (self.head(x), x) if use_cache else self.head(x)"""),
    CONFIG,
)

# Unusual outputs

STYLES["hidden state first"] = (
    _lm("""input_ids):
    x = self.states(input_ids)
    return x, self.head(x)"""),
    CONFIG,
)
STYLES["dataclass with lm_logits"] = (
    _lm(
        """input_ids):
    x = self.states(input_ids)
    return Out(last_hidden_state=x, lm_logits=self.head(x))""",
        before="@dataclass\nclass Out:\n    last_hidden_state: torch.Tensor\n    lm_logits: torch.Tensor\n",
    ),
    CONFIG,
)
STYLES["named tuple"] = (
    _lm(
        """input_ids):
    x = self.states(input_ids)
    return Out(x, self.head(x))""",
        before="class Out(NamedTuple):\n    memory: torch.Tensor\n    scores: torch.Tensor\n",
    ),
    CONFIG,
)
STYLES["nested mappings"] = (
    _lm("""input_ids):
    x = self.states(input_ids)
    return {"aux": {"norm": x.pow(2).mean()}, "outputs": ({"hidden": x}, {"prediction_logits": self.head(x)})}"""),
    CONFIG,
)
STYLES["pretraining heads of BERT"] = (
    _lm(
        """input_ids, token_type_ids=None, attention_mask=None):
    token_type_ids = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    x = self.tok(input_ids) + self.pos(torch.arange(input_ids.shape[1], device=input_ids.device)) + self.types(token_type_ids)
    for block in self.blocks:
        x = block(x, attention_mask)
    x = self.norm(x)
    return {"seq_relationship_logits": self.nsp(self.pool(x[:, 0]).tanh()).detach(), "prediction_logits": self.mlm(x)}""",
        init="self.types, self.pool, self.nsp, self.mlm = nn.Embedding(2, 16), nn.Linear(16, 16), nn.Linear(16, 2), nn.Linear(16, 40)",
        causal=False,
    ).replace(".detach()", ""),
    CONFIG | {"task": "masked_lm"},
)

# Encoders and classifiers

STYLES["masked language model with a transform before the head"] = (
    _lm(
        """input_ids, attention_mask=None):
    return self.decoder(self.ln(F.gelu(self.dense(self.states(input_ids, attention_mask)))))""",
        init="self.dense, self.ln, self.decoder = nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 40)",
        causal=False,
    ),
    CONFIG | {"task": "masked_lm"},
)
STYLES["classifier by the first token"] = (
    _lm(
        """input_ids, attention_mask=None):
    return self.classifier(self.pooler(self.states(input_ids, attention_mask)[:, 0]).tanh())""",
        init="self.pooler, self.classifier = nn.Linear(16, 16), nn.Linear(16, 3)",
        causal=False,
    ),
    CONFIG | {"num_labels": 3},
)
STYLES["classifier by the mean of real tokens"] = (
    _lm(
        """input_ids, attention_mask=None):
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    x, m = self.states(input_ids, mask), mask[..., None].float()
    return {"features": x, "logits": self.fc((x * m).sum(1) / m.sum(1).clamp(min=1))}""",
        init="self.fc = nn.Linear(16, 3)",
        causal=False,
    ),
    CONFIG | {"num_classes": 3},
)
STYLES["torch encoder classifier, key padding"] = (
    HEAD
    + """
class TextClassifier(nn.Module):
    def __init__(self, vocab_size, num_class, max_len=24):
        super().__init__()
        self.embedding, self.position = nn.Embedding(vocab_size, 16), nn.Embedding(max_len, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True), 1)
        self.fc = nn.Linear(16, num_class)

    def forward(self, text, src_key_padding_mask=None):
        x = self.embedding(text) + self.position(torch.arange(text.shape[1], device=text.device))
        return self.fc(self.encoder(x, src_key_padding_mask=src_key_padding_mask)[:, 0])
""",
    {"vocab_size": V, "num_class": 3, "max_len": 24},
)


# Several files

BLOCK_FILE = HEAD + PARTS
STYLES["a module beside model.py"] = (
    """
import torch.nn as nn
from blocks import Body

class Net(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.body, self.head = Body(vocab_size), nn.Linear(16, vocab_size)

    def forward(self, input_ids):
        return self.head(self.body.states(input_ids))
""",
    {"config.json": CONFIG, "blocks.py": BLOCK_FILE},
)
STYLES["a package beside model.py, relative imports"] = (
    """
import torch.nn as nn
from .layers import Body
from .layers.settings import WIDTH

class Net(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.body, self.head = Body(vocab_size, WIDTH), nn.Linear(WIDTH, vocab_size)

    def forward(self, input_ids):
        return self.head(self.body.states(input_ids))
""",
    {
        "config.json": CONFIG,
        "layers/__init__.py": "from .stack import Body\n",
        "layers/stack.py": BLOCK_FILE + "from . import settings\nassert settings.WIDTH == 16\n",
        "layers/settings.py": "WIDTH = 16\n",
    },
)


def write_style(folder: Path, name: str, **changes: Any) -> Path:
    """Write the export of a style, with other values in its configuration, and return its folder."""
    source, files = STYLES[name]
    folder.mkdir(parents=True, exist_ok=True)
    if "config.json" not in files:
        files = {"config.json": files}
    files = files | {"config.json": files["config.json"] | changes}
    for file, content in {"model.py": source, **files}.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder
