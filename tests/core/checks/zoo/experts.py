"""A decoder with a sparse mixture of experts."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Expert(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.up, self.down = nn.Linear(d, f), nn.Linear(f, d)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class SparseMoE(nn.Module):
    def __init__(self, d, f, n, k):
        super().__init__()
        self.router = nn.Linear(d, n, bias=False)
        self.experts = nn.ModuleList([Expert(d, f) for _ in range(n)])
        self.k = k

    def forward(self, x):
        B, T, D = x.shape
        flat = x.reshape(-1, D)
        gates = F.softmax(self.router(flat), dim=-1)
        top, index = gates.topk(self.k, dim=-1)
        top = top / top.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            rows, slot = (index == e).nonzero(as_tuple=True)
            if rows.numel():
                out.index_add_(0, rows, expert(flat[rows]) * top[rows, slot].unsqueeze(-1))
        return out.view(B, T, D)


class MoEBlock(nn.Module):
    def __init__(self, d, h, f, n, k):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.MultiheadAttention(d, h, batch_first=True)
        self.moe = SparseMoE(d, f, n, k)

    def forward(self, x, mask):
        h = self.ln1(x)
        a = self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        x = x + a
        return x + self.moe(self.ln2(x))


class MoELM(nn.Module):
    def __init__(self, config):
        super().__init__()
        d = config["d_model"]
        self.tok = nn.Embedding(config["vocab_size"], d)
        self.pos = nn.Embedding(config["max_seq_len"], d)
        self.blocks = nn.ModuleList(
            [
                MoEBlock(d, config["n_heads"], config["d_ff"], config["num_experts"], config["top_k"])
                for _ in range(config["n_layers"])
            ]
        )
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, config["vocab_size"])

    def forward(self, input_ids):
        T = input_ids.shape[1]
        x = self.tok(input_ids) + self.pos(torch.arange(T, device=input_ids.device))
        mask = torch.ones(T, T, device=x.device, dtype=torch.bool).triu(1)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))
