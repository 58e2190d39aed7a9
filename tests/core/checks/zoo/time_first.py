"""nn.Transformer with time in front: source and target have separate vocabularies."""

import math

import torch
import torch.nn as nn


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len, p):
        super().__init__()
        self.dropout = nn.Dropout(p)
        position = torch.arange(max_len).unsqueeze(1)
        div = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div)
        pe[:, 0, 1::2] = torch.cos(position * div)
        self.register_buffer("pe", pe)

    def forward(self, x):
        x = x + self.pe[: x.size(0)]
        return self.dropout(x)


class TimeFirstTransformer(nn.Module):
    def __init__(
        self,
        src_vocab_size,
        tgt_vocab_size,
        d_model,
        nhead,
        num_encoder_layers,
        num_decoder_layers,
        dim_feedforward,
        max_len,
        dropout,
        **kw,
    ):
        super().__init__()
        self.d_model = d_model
        self.src_tok = nn.Embedding(src_vocab_size, d_model)
        self.tgt_tok = nn.Embedding(tgt_vocab_size, d_model)
        self.pos = PositionalEncoding(d_model, max_len, dropout)
        self.transformer = nn.Transformer(
            d_model, nhead, num_encoder_layers, num_decoder_layers, dim_feedforward, dropout
        )
        self.generator = nn.Linear(d_model, tgt_vocab_size)

    def forward(self, src, tgt, src_mask=None):
        src_e = self.pos(self.src_tok(src).transpose(0, 1) * math.sqrt(self.d_model))
        tgt_e = self.pos(self.tgt_tok(tgt).transpose(0, 1) * math.sqrt(self.d_model))
        causal = self.transformer.generate_square_subsequent_mask(tgt.size(1), device=src.device)
        pad = None if src_mask is None else (src_mask == 0)
        out = self.transformer(src_e, tgt_e, tgt_mask=causal, src_key_padding_mask=pad, memory_key_padding_mask=pad)
        out = out.transpose(0, 1)
        return self.generator(out)
