"""An encoder-decoder with relative biases, which shifts the labels itself."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class RMS(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class RelBias(nn.Module):
    def __init__(self, buckets, heads, bidirectional, far=32):
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.buckets, self.bidirectional, self.far = buckets, bidirectional, far

    def forward(self, q_len, k_len, device):
        rel = torch.arange(k_len, device=device)[None, :] - torch.arange(q_len, device=device)[:, None]
        n = self.buckets
        out = torch.zeros_like(rel)
        if self.bidirectional:
            n //= 2
            out = out + (rel > 0).long() * n
            rel = rel.abs()
        else:
            rel = (-rel).clamp(min=0)
        exact = n // 2
        large = exact + (torch.log(rel.clamp(min=1).float() / exact) / math.log(self.far / exact) * (n - exact)).long()
        large = large.clamp(max=n - 1)
        out = out + torch.where(rel < exact, rel, large)
        return self.table(out).permute(2, 0, 1).unsqueeze(0)


class Attention(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.h, self.dh = h, d // h
        self.q = nn.Linear(d, d, bias=False)
        self.k = nn.Linear(d, d, bias=False)
        self.v = nn.Linear(d, d, bias=False)
        self.o = nn.Linear(d, d, bias=False)
        nn.init.normal_(self.q.weight, std=(d * self.dh) ** -0.5)
        for m in (self.k, self.v, self.o):
            nn.init.normal_(m.weight, std=d**-0.5)

    def split(self, t):
        return t.view(t.shape[0], -1, self.h, self.dh).transpose(1, 2)

    def forward(self, x, kv, bias):
        q, k, v = self.split(self.q(x)), self.split(self.k(kv)), self.split(self.v(kv))
        scores = torch.matmul(q, k.transpose(3, 2))
        scores = scores + bias
        w = F.softmax(scores.float(), dim=-1).type_as(scores)
        y = torch.matmul(w, v).transpose(1, 2).reshape(x.shape[0], -1, self.h * self.dh)
        return self.o(y)


class FF(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.wi = nn.Linear(d, f, bias=False)
        self.wo = nn.Linear(f, d, bias=False)
        nn.init.normal_(self.wi.weight, std=d**-0.5)
        nn.init.normal_(self.wo.weight, std=f**-0.5)

    def forward(self, x):
        return self.wo(F.relu(self.wi(x)))


class EncLayer(nn.Module):
    def __init__(self, d, h, f):
        super().__init__()
        self.n1, self.n2 = RMS(d), RMS(d)
        self.att, self.ff = Attention(d, h), FF(d, f)

    def forward(self, x, bias):
        n = self.n1(x)
        x = x + self.att(n, n, bias)
        return x + self.ff(self.n2(x))


class DecLayer(nn.Module):
    def __init__(self, d, h, f):
        super().__init__()
        self.n1, self.n2, self.n3 = RMS(d), RMS(d), RMS(d)
        self.att, self.cross, self.ff = Attention(d, h), Attention(d, h), FF(d, f)

    def forward(self, x, mem, self_bias, cross_bias):
        n = self.n1(x)
        x = x + self.att(n, n, self_bias)
        x = x + self.cross(self.n2(x), mem, cross_bias)
        return x + self.ff(self.n3(x))


class MiniT5(nn.Module):
    def __init__(self, vocab_size, d_model, num_heads, num_layers, d_ff, decoder_start_token_id=0, **kw):
        super().__init__()
        self.d_model, self.start = d_model, decoder_start_token_id
        self.shared = nn.Embedding(vocab_size, d_model)
        self.enc_bias = RelBias(16, num_heads, True)
        self.dec_bias = RelBias(16, num_heads, False)
        self.encoder = nn.ModuleList([EncLayer(d_model, num_heads, d_ff) for _ in range(num_layers)])
        self.decoder = nn.ModuleList([DecLayer(d_model, num_heads, d_ff) for _ in range(num_layers)])
        self.enc_norm, self.dec_norm = RMS(d_model), RMS(d_model)
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)
        self.lm_head.weight = self.shared.weight

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None, labels=None):
        if decoder_input_ids is None and labels is not None:
            decoder_input_ids = labels.new_full(labels.shape, self.start)
            decoder_input_ids[:, 1:] = labels[:, :-1]
            decoder_input_ids = decoder_input_ids.masked_fill(decoder_input_ids == -100, 0)
        S, T = input_ids.shape[1], decoder_input_ids.shape[1]
        x = self.shared(input_ids)
        bias = self.enc_bias(S, S, x.device)
        cross = torch.zeros(1, 1, 1, S, device=x.device)
        if attention_mask is not None:
            gone = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(x.dtype).min
            bias = bias + gone
            cross = cross + gone
        for layer in self.encoder:
            x = layer(x, bias)
        mem = self.enc_norm(x)
        y = self.shared(decoder_input_ids)
        dbias = self.dec_bias(T, T, y.device)
        future = torch.ones(T, T, dtype=torch.bool, device=y.device).triu(1)
        dbias = dbias.masked_fill(future, torch.finfo(y.dtype).min)
        for layer in self.decoder:
            y = layer(y, mem, dbias, cross)
        y = self.dec_norm(y) * self.d_model**-0.5
        logits = self.lm_head(y)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1), ignore_index=-100)
        return {"loss": loss, "logits": logits}
