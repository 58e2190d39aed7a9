# ruff: noqa: E501  (tables of code, one case a line)
"""Sound models with one fault of wiring each: name -> (sound model, changes of its code, of its configuration, place)."""

from __future__ import annotations

from typing import Any

QKV = "q, k, v = self.to_qkv(x).reshape(b, n, 3, self.h, self.dh).permute(2, 0, 3, 1, 4)"
GPT_V = "        v = self.v(x).view(B, T, self.n_head, C // self.n_head).transpose(1, 2)\n"

FAULTS: dict[str, tuple[str, dict[str, str], dict[str, Any], str]] = {
    "values are the keys": ("alibi", {QKV: QKV + "\n        v = k"}, {}, "to_qkv"),
    "keys are the queries": ("alibi", {QKV: QKV + "\n        k = q"}, {}, "to_qkv"),
    "one head for all": ("gpt", {GPT_V: GPT_V + "        v = v[:, :1].expand_as(v)\n"}, {}, "attn.v"),
    "last head dropped": ("gpt", {"        y = att @ v\n": "        y = att @ v\n        y = torch.cat([y[:, :-1], y[:, :1]], 1)\n"}, {}, "attn"),
    "halves of a fused gate": ("rotary", {"self.w1 = nn.Linear(dim, inner, bias=False)": "self.w1 = nn.Linear(dim, 2 * inner, bias=False)", "        self.w3 = nn.Linear(dim, inner, bias=False)\n": "", "return self.w2(F.silu(self.w1(x)) * self.w3(x))": "a, b = self.w1(x).chunk(2, -1)\n        return self.w2(F.silu(a) * a)"}, {}, "ffn.w1"),
    "half of the width into the feed-forward": ("gpt", {"        h = self.fc(x)\n": "        h = self.fc(torch.cat([x[..., : x.size(-1) // 2], torch.zeros_like(x[..., x.size(-1) // 2 :])], -1))\n"}, {}, "mlp.fc"),
    "norms shared": ("gpt", {"        self.ln_2 = nn.LayerNorm(c[\"n_embd\"])\n": "        self.ln_2 = self.ln_1\n"}, {}, "ln_2"),
    "queries and keys shared": ("masked", {"self.key = nn.Linear(d, d)": "self.key = self.query"}, {}, "key"),
    "attention shared by layers": ("masked", {"def __init__(self, d, h, f, p):\n        super().__init__()\n        self.att = SelfAttention(d, h, p)": "def __init__(self, d, h, f, p, att):\n        super().__init__()\n        self.att = att", "nn.ModuleList([EncoderLayer(d_model, nhead, dim_feedforward, dropout) for _ in range(num_layers)])": "nn.ModuleList([EncoderLayer(d_model, nhead, dim_feedforward, dropout, a) for a in [SelfAttention(d_model, nhead, dropout)] * num_layers])"}, {}, "layers.1.att"),
    "encoder is the decoder's attention": ("t5", {"self.att, self.cross, self.ff = Attention(d, h), Attention(d, h), FF(d, f)": "self.att, self.ff = Attention(d, h), FF(d, f)\n        self.cross = self.att"}, {}, "cross"),
    "types ignored": ("classifier", {"            + self.token_type_embeddings(token_type_ids)\n": "            + self.token_type_embeddings(torch.zeros_like(input_ids))\n"}, {}, "forward"),
    "positions ignored": ("gpt", {"def forward(self, idx, targets=None):": "def forward(self, idx, targets=None, position_ids=None):"}, {}, "forward"),
    "training skips a scale": ("gpt", {"        x = self.ln_f(x)\n": "        x = self.ln_f(x)\n        x = x if self.training else x * 0.8\n"}, {}, "model.py:"),
    "another path in training": ("rotary", {"        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n": "        y = F.scaled_dot_product_attention(q, k, v, is_causal=True) if self.training else F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.2)\n"}, {}, "attn"),
    "leak behind sixteen tokens": ("gpt", {"att = att.masked_fill(self.tri[:, :, :T, :T] == 0, float(\"-inf\"))": "m = self.tri[:, :, :T, :T].clone()\n        m[:, :, 16:, 16:] = 1\n        att = att.masked_fill(m == 0, float(\"-inf\"))"}, {}, "attn"),
    "leak at the last position": ("rotary", {"        for layer in self.layers:\n            h = layer(h, cos, sin)\n": "        for layer in self.layers:\n            h = layer(h, cos, sin)\n        h = torch.cat([h[:, :24], h[:, 24:] + 0.2 * h[:, -1:]], 1)\n"}, {}, "model.py:"),
    "logits bound by cosine": ("rotary", {"logits = self.lm_head(h)": "logits = F.linear(F.normalize(h, dim=-1), F.normalize(self.lm_head.weight, dim=-1)) * 2"}, {}, "model.py:"),
    "half of the gradient detached": ("gpt", {"        x = x + self.mlp(self.ln_2(x))\n": "        x = x.detach() + self.mlp(self.ln_2(x))\n"}, {}, "h."),
    "scores detached": ("gpt", {"        att = self.drop(att)\n": "        att = self.drop(att.detach() * 0.5 + att * 0.5)\n"}, {}, "attn"),
    "misspelt keyword": ("rotary", {}, {"num_hidden_layer": 4, "num_hidden_layers": ...}, "model.py:"),
    "activation ignored": ("gpt", {}, {"activation": "relu"}, "model.py:"),
    "epsilon ignored": ("rotary", {}, {"rms_norm_eps": 0.1}, "norm"),
}  # fmt: skip
