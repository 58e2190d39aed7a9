"""A decoder without attention: a convolution and a recurrence mix the positions."""

import torch.nn as nn
import torch.nn.functional as F


class ConvMixer(nn.Module):
    def __init__(self, d, k=5):
        super().__init__()
        self.k = k
        self.conv = nn.Conv1d(d, d, k, groups=d)
        self.gate = nn.Linear(d, d)
        self.out = nn.Linear(d, d)

    def forward(self, x):
        y = F.pad(x.transpose(1, 2), (self.k - 1, 0))
        y = self.conv(y).transpose(1, 2)
        return self.out(F.silu(self.gate(x)) * y)


class RecurrentMixer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.rnn = nn.GRU(d, d, batch_first=True)
        self.out = nn.Linear(d, d)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.out(y)


class MixLM(nn.Module):
    def __init__(self, vocab_size, d_model, num_layers, max_seq_len, **kw):
        super().__init__()
        self.emb = nn.Embedding(vocab_size, d_model)
        self.norms = nn.ModuleList([nn.LayerNorm(d_model) for _ in range(num_layers)])
        self.mixers = nn.ModuleList(
            [ConvMixer(d_model) if i % 2 == 0 else RecurrentMixer(d_model) for i in range(num_layers)]
        )
        self.ffs = nn.ModuleList(
            [
                nn.Sequential(
                    nn.LayerNorm(d_model), nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model)
                )
                for _ in range(num_layers)
            ]
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids):
        x = self.emb(input_ids)
        for norm, mixer, ff in zip(self.norms, self.mixers, self.ffs, strict=False):
            x = x + mixer(norm(x))
            x = x + ff(x)
        return self.head(self.norm(x))
