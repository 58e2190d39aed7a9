"""An encoder for masked tokens, with sinusoidal positions and an additive mask."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class SelfAttention(nn.Module):
    def __init__(self, d, h, p):
        super().__init__()
        self.h, self.dk = h, d // h
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d)
        self.value = nn.Linear(d, d)
        self.dense = nn.Linear(d, d)
        self.p = p

    def heads(self, x):
        B, T, _D = x.shape
        return x.view(B, T, self.h, self.dk).permute(0, 2, 1, 3)

    def forward(self, x, bias):
        q, k, v = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.dk)
        scores = scores + bias
        probs = nn.functional.softmax(scores, dim=-1)
        probs = F.dropout(probs, p=self.p, training=self.training)
        ctx = torch.matmul(probs, v).permute(0, 2, 1, 3).contiguous()
        ctx = ctx.view(ctx.size(0), ctx.size(1), self.h * self.dk)
        return self.dense(ctx)


class EncoderLayer(nn.Module):
    def __init__(self, d, h, f, p):
        super().__init__()
        self.att = SelfAttention(d, h, p)
        self.ln1 = nn.LayerNorm(d)
        self.fc1 = nn.Linear(d, f)
        self.fc2 = nn.Linear(f, d)
        self.ln2 = nn.LayerNorm(d)
        self.drop = nn.Dropout(p)

    def forward(self, x, bias):
        x = self.ln1(x + self.drop(self.att(x, bias)))
        x = self.ln2(x + self.drop(self.fc2(F.gelu(self.fc1(x)))))
        return x


class MaskedLM(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers, dim_feedforward, max_seq_len, dropout=0.1, **kw):
        super().__init__()
        self.tok = nn.Embedding(vocab_size, d_model)
        pe = torch.zeros(max_seq_len, d_model)
        position = torch.arange(0, max_seq_len).unsqueeze(1).float()
        div = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        pe[:, 0::2] = torch.sin(position * div)
        pe[:, 1::2] = torch.cos(position * div)
        self.register_buffer("pe", pe.unsqueeze(0))
        self.ln = nn.LayerNorm(d_model)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList([EncoderLayer(d_model, nhead, dim_feedforward, dropout) for _ in range(num_layers)])
        self.transform = nn.Linear(d_model, d_model)
        self.ln_head = nn.LayerNorm(d_model)
        self.decoder = nn.Linear(d_model, vocab_size)
        self.apply(self.reset)
        self.decoder.weight = self.tok.weight

    def reset(self, m):
        if isinstance(m, (nn.Linear, nn.Embedding)):
            m.weight.data.normal_(0, 0.02)
        if isinstance(m, nn.Linear) and m.bias is not None:
            m.bias.data.zero_()

    def forward(self, input_ids, attention_mask=None, labels=None):
        x = self.tok(input_ids) + self.pe[:, : input_ids.size(1)]
        x = self.drop(self.ln(x))
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        h = self.ln_head(F.gelu(self.transform(x)))
        logits = self.decoder(h)
        if labels is not None:
            loss = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)
            return loss, logits
        return logits
