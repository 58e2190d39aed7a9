"""A decoder made of nn.TransformerEncoder."""

import torch
import torch.nn as nn


class TorchGPT(nn.Module):
    """Decoder-only from torch's own layers."""

    def __init__(
        self, vocab_size=100, d_model=32, nhead=4, num_layers=2, dim_feedforward=64, max_seq_len=40, dropout=0.1
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.pos_embedding = nn.Parameter(torch.zeros(1, max_seq_len, d_model))
        nn.init.trunc_normal_(self.pos_embedding, std=0.02)
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids, attention_mask=None):
        T = input_ids.size(1)
        x = self.embedding(input_ids) + self.pos_embedding[:, :T, :]
        causal = torch.triu(torch.full((T, T), float("-inf"), device=x.device), diagonal=1)
        pad = None
        if attention_mask is not None:
            pad = torch.zeros_like(attention_mask, dtype=x.dtype).masked_fill(attention_mask == 0, float("-inf"))
        x = self.encoder(x, mask=causal, src_key_padding_mask=pad)
        return self.head(x)
