"""Decoders of 14M parameters for measuring exports: attention as a drawn model has it, written out, and rotary."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.core.export.small_models import RotaryGpt

__all__ = ["LONGEST", "VOCABULARY", "make_model"]

VOCABULARY, LONGEST = 8192, 128
_WIDTH, _HEADS, _LAYERS = 384, 6, 6


class WrittenAttention(nn.Module):
    """Attention of separate products, a mask and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, forbidden: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (part(x).view(b, t, _HEADS, d // _HEADS).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(d // _HEADS)
        shares = self.dropout(scores.masked_fill(forbidden, float("-inf")).softmax(-1))
        return self.out((shares @ v).transpose(1, 2).contiguous().view(b, t, d))


class DrawnAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` as Transformer Builder calls it."""

    def __init__(self) -> None:
        super().__init__(embed_dim=_WIDTH, num_heads=_HEADS, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor, forbidden: Tensor) -> Tensor:  # type: ignore[override]
        answer, _ = super().forward(x, x, x, attn_mask=forbidden)
        return answer


class Decoder(nn.Module):
    """Learned positions, LayerNorm before each part, GELU, a head tied to the embedding."""

    def __init__(self, attention: type[nn.Module]) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, _WIDTH), nn.Embedding(LONGEST, _WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(_WIDTH) for _ in range(2 * _LAYERS + 1)])
        self.attention = nn.ModuleList([attention() for _ in range(_LAYERS)])
        self.forward_layers = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH), nn.Dropout(0.1))
                for _ in range(_LAYERS)
            ]
        )
        self.head = nn.Linear(_WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.tokens.weight, std=_WIDTH**-0.5)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        t = input_ids.shape[1]
        x = self.tokens(input_ids) + self.positions(torch.arange(t, device=input_ids.device))
        forbidden = torch.triu(torch.ones(t, t, dtype=torch.bool, device=x.device), diagonal=1)
        for layer in range(_LAYERS):
            x = x + self.attention[layer](self.norms[2 * layer](x), forbidden)
            x = x + self.forward_layers[layer](self.norms[2 * layer + 1](x))
        return self.head(self.norms[-1](x))


def make_model(name: str) -> nn.Module:
    """Return ``drawn``, ``written`` or ``rotary``, in evaluation mode."""
    torch.manual_seed(0)
    if name != "rotary":
        return Decoder({"drawn": DrawnAttention, "written": WrittenAttention}[name]).eval()
    model = RotaryGpt(vocab_size=VOCABULARY, d_model=512, n_head=8, n_layer=9, max_seq_len=LONGEST)
    nn.init.normal_(model.wte.weight, std=0.02)
    return model.eval()
