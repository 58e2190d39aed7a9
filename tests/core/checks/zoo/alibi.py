"""A decoder with ALiBi, after-norms and einsum."""

import math

import torch
import torch.nn as nn


class AlibiAttention(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.h, self.dh = h, d // h
        self.to_qkv = nn.Linear(d, 3 * d, bias=False)
        self.to_out = nn.Linear(d, d)
        slopes = torch.tensor([2 ** (-8 * (i + 1) / h) for i in range(h)])
        self.register_buffer("slopes", slopes)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.to_qkv(x).reshape(b, n, 3, self.h, self.dh).permute(2, 0, 3, 1, 4)
        s = torch.einsum("bhid,bhjd->bhij", q, k) * self.dh**-0.5
        i = torch.arange(n, device=x.device)
        dist = (i[None, :] - i[:, None]).clamp(max=0)
        s = s + self.slopes[:, None, None] * dist
        s = s.masked_fill(i[None, :] > i[:, None], torch.finfo(s.dtype).min)
        p = s.softmax(dim=-1)
        o = torch.einsum("bhij,bhjd->bhid", p, v)
        o = o.permute(0, 2, 1, 3).reshape(b, n, d)
        return self.to_out(o)


class AlibiBlock(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.attn = AlibiAttention(d, h)
        self.norm1 = nn.LayerNorm(d)
        self.norm2 = nn.LayerNorm(d)
        self.ff = nn.Sequential(nn.Linear(d, 3 * d), nn.ReLU(), nn.Linear(3 * d, d))

    def forward(self, x):
        x = self.norm1(x + self.attn(x))
        x = self.norm2(x + self.ff(x))
        return x


class AlibiLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        d = config["d_model"]
        self.tok = nn.Embedding(config["vocab_size"], d)
        self.blocks = nn.Sequential(*[AlibiBlock(d, config["num_heads"]) for _ in range(config["num_layers"])])
        self.out = nn.Linear(d, config["vocab_size"])
        nn.init.normal_(self.tok.weight, std=0.05)

    def forward(self, tokens):
        x = self.tok(tokens) * math.sqrt(self.tok.embedding_dim)
        x = self.blocks(x)
        return {"logits": self.out(x)}
