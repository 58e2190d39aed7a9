"""Small models of the three kinds, and some that exporters get wrong."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RotaryGpt(nn.Module):
    """Decoder-only: rotary tables in non-persistent buffers, head tied to the embedding."""

    def __init__(self, vocab_size=96, d_model=32, n_head=4, n_layer=2, max_seq_len=24):
        super().__init__()
        self.n_head = n_head
        self.wte = nn.Embedding(vocab_size, d_model)
        self.qkv = nn.ModuleList([nn.Linear(d_model, 3 * d_model) for _ in range(n_layer)])
        self.ffn = nn.ModuleList([nn.Linear(d_model, d_model) for _ in range(n_layer)])
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        angles = torch.outer(torch.arange(max_seq_len), 100.0 ** -torch.linspace(0, 1, d_model // n_head // 2))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def rotate(self, x):
        t = x.shape[2]
        even, odd = x.chunk(2, dim=-1)
        cos, sin = self.cos[:t], self.sin[:t]
        return torch.cat([even * cos - odd * sin, even * sin + odd * cos], dim=-1)

    def forward(self, input_ids):
        x = self.wte(input_ids)
        b, t, d = x.shape
        for qkv, ffn in zip(self.qkv, self.ffn, strict=True):
            q, k, v = (y.view(b, t, self.n_head, d // self.n_head).transpose(1, 2) for y in qkv(x).chunk(3, dim=-1))
            y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
            x = x + y.transpose(1, 2).reshape(b, t, d)
            x = x + F.gelu(ffn(x))
        return self.lm_head(x)


class TableGpt(nn.Module):
    """Decoder-only: a causal mask cut out of a table, a learned bias on attention; exporters stumble over both."""

    def __init__(self, vocab_size=96, d_model=32, max_seq_len=24, table_size=24):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.bias = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.head = nn.Linear(d_model, vocab_size)
        self.register_buffer("mask", torch.ones(table_size, table_size, dtype=torch.bool).tril(), persistent=False)

    def forward(self, input_ids, attention_mask):
        x = self.tokens(input_ids)
        b, t, d = x.shape
        q, k, v = (y.view(b, t, 4, d // 4).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        allowed = self.mask[:t, :t] & (attention_mask[:, None, None, :] == 1)
        scores = self.bias.expand(b, 4, t, t).masked_fill(~allowed, -1e9)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=scores)
        return self.head(x + y.transpose(1, 2).reshape(x.shape))


class MaskedEncoder(nn.Module):
    """Encoder-only, built of nn.TransformerEncoder, whose fast path no exporter can follow; answers with a mapping."""

    def __init__(self, vocab_size=96, d_model=32, max_seq_len=24, num_classes=None, pad_token_id=0, mask_token_id=4):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model, padding_idx=pad_token_id)
        self.positions = nn.Embedding(max_seq_len, d_model)
        layer = nn.TransformerEncoderLayer(d_model, 4, 64, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.pooled = num_classes is not None
        self.head = nn.Linear(d_model, num_classes or vocab_size)

    def forward(self, input_ids, attention_mask=None, labels=None):
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.size(1)))
        x = self.encoder(x, src_key_padding_mask=None if attention_mask is None else attention_mask == 0)
        out = {"hidden": x, "logits": self.head(x[:, 0] if self.pooled else x)}
        if labels is not None:
            out["loss"] = F.cross_entropy(out["logits"].flatten(0, -2), labels.flatten(), ignore_index=-100)
        return out


class Translator(nn.Module):
    """Encoder-decoder, built of nn.Transformer, with padding masks on both sides."""

    def __init__(self, vocab_size=96, d_model=32, max_seq_len=24, pad_token_id=0, decoder_start_token_id=0):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.shared = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(max_seq_len, d_model)
        self.core = nn.Transformer(d_model, 4, 2, 2, 64, 0.1, batch_first=True)
        self.head = nn.Linear(d_model, vocab_size)

    def embed(self, ids):
        return self.shared(ids) * self.scale + self.positions(torch.arange(ids.size(1)))

    def forward(self, input_ids, decoder_input_ids, attention_mask=None, decoder_attention_mask=None):
        source = None if attention_mask is None else attention_mask == 0
        target = None if decoder_attention_mask is None else decoder_attention_mask == 0
        s = decoder_input_ids.size(1)
        return self.head(
            self.core(
                self.embed(input_ids),
                self.embed(decoder_input_ids),
                tgt_mask=torch.ones(s, s, dtype=torch.bool).triu(1),
                src_key_padding_mask=source,
                tgt_key_padding_mask=target,
                memory_key_padding_mask=source,
            ),
        )


class Branching(nn.Module):
    """Goes another way from 7 tokens on, as windows of attention do; harmless where both ways lead to the same."""

    def __init__(self, harmless, vocab_size=96, d_model=8):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)
        self.harmless = harmless

    def forward(self, input_ids):
        x = self.tokens(input_ids)
        if input_ids.shape[1] >= 7:
            x = torch.cat([x[:, :7], x[:, 7:]], dim=1) if self.harmless else 2 * x
        return self.head(x)


class BakedLength(nn.Module):
    """Right at every length in Python; exporters keep the example's, because the positions come from numpy."""

    def __init__(self, vocab_size=96, d_model=8, max_seq_len=24):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids):
        last = np.float32(int(input_ids.shape[1]) - 1)
        return self.head(self.tokens(input_ids)) + torch.tensor(last)


class Recurrent(nn.Module):
    """A Python loop over time, which only compilation by ``jit.script`` keeps."""

    def __init__(self, vocab_size: int = 96, d_model: int = 8):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.cell = nn.GRUCell(d_model, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids)
        state = torch.zeros_like(x[:, 0])
        states: list[Tensor] = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            states.append(state)
        return self.head(torch.stack(states, 1))


class Eigenvalues(nn.Module):
    """An operation that ONNX lacks."""

    def __init__(self, vocab_size=96, d_model=8, max_seq_len=24):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids):
        x = self.tokens(input_ids)
        return self.head(x + torch.linalg.eigvalsh(x.transpose(1, 2) @ x)[:, None])


def make_inputs(masks=False, decoder=False, vocab_size=96, max_length=24):
    """``inputs(batch, length)``: real ids of 1 and more, rows ending in padding, the first row full."""

    def inputs(batch, length):
        generator = torch.Generator().manual_seed(100 * batch + length)

        def row_block(size):
            ids = torch.randint(1, vocab_size, (batch, size), generator=generator)
            real = torch.clamp(size - torch.arange(batch), min=1)
            mask = (torch.arange(size) < real[:, None]).long()
            return ids * mask, mask

        ids, mask = row_block(length)
        tensors = {"input_ids": ids}
        target = length if batch == 1 or length + 2 > max_length else length + 2
        if decoder:
            tensors["decoder_input_ids"], decoder_mask = row_block(target)
        if masks:
            tensors["attention_mask"] = mask
            if decoder:
                tensors["decoder_attention_mask"] = decoder_mask
        return tensors

    return inputs
