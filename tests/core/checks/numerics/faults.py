# ruff: noqa: E501  (tables of code, one case a line)
"""Sound models with one numerical fault each: name -> (sound model, changes, place, changes of its repaired twin)."""

from __future__ import annotations

from typing import Any

SOFTMAX = "        att = F.softmax(att, dim=-1)\n"
HEAD_NORM = "        x = self.ln_f(x)\n"
GELU = "        h = F.gelu(h)\n"
SCORES = "        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))\n"
RMS = "        n = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)\n        return n.to(x.dtype) * self.weight\n"
ANGLES = "f = torch.outer(positions.float(), self.inv_freq)"
POOL = "        pooled = torch.tanh(self.pooler(x[:, 0]))\n"
MASK = (
    "        m = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).unsqueeze(-1).to(x.dtype)\n"
)
LN1 = 'self.ln_1 = nn.LayerNorm(c["n_embd"])'
NORM_CLASS = "class CausalSelfAttention(nn.Module):\n"
CORE = '        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))\n        att = att.masked_fill(self.tri[:, :, :T, :T] == 0, float("-inf"))\n        att = F.softmax(att, dim=-1)\n        att = self.drop(att)\n        y = att @ v\n'


def _norm(body: str) -> dict[str, str]:
    """Return changes of the GPT that replace its norms by one written by hand."""
    new = f"class Norm(nn.Module):\n    def __init__(self, d, eps=1e-5):\n        super().__init__()\n        self.g, self.b, self.eps = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d)), eps\n\n    def forward(self, x):\n        {body}\n\n\n"
    return {NORM_CLASS: new + NORM_CLASS, LN1: 'self.ln_1 = Norm(c["n_embd"])'}


FAULTS: dict[str, tuple[str, dict[str, str], str, dict[str, str]]] = {
    "softmax by hand": ("gpt", {SOFTMAX: "        att = att.exp() / att.exp().sum(-1, keepdim=True)\n"}, "attn", {SOFTMAX: "        att = (att - att.amax(-1, keepdim=True)).exp()\n        att = att / att.sum(-1, keepdim=True)\n"}),
    "sigmoid by hand": ("gpt", {GELU: "        h = h * (h.exp() / (1 + h.exp()))\n"}, "mlp", {GELU: "        h = h * torch.sigmoid(h)\n"}),
    "silu with a gradient of NaN": ("gpt", {GELU: "        h = h / (1 + torch.exp(-h))\n"}, "mlp", {GELU: "        h = h / (1 + torch.exp(-h.clamp(min=-30)))\n"}),
    "tanh by hand": ("gpt", {GELU: "        h = (h.exp() - (-h).exp()) / (h.exp() + (-h).exp())\n"}, "mlp", {GELU: "        h = torch.tanh(h)\n"}),
    "softplus by hand": ("gpt", {GELU: "        h = torch.log(1 + torch.exp(h))\n"}, "mlp", {GELU: "        h = F.softplus(h)\n"}),
    "variance as a difference": ("gpt", _norm("return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.pow(2).mean(-1, keepdim=True) - x.mean(-1, keepdim=True).pow(2) + self.eps) * self.g + self.b"), "ln_1", _norm("return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + self.eps) * self.g + self.b")),
    "norm over positions of one": ("gpt", {HEAD_NORM: "        x = self.ln_f(x) / (1 + x[:, :1].std(1, keepdim=True))\n"}, "model.py:", {HEAD_NORM: "        x = self.ln_f(x)\n"}),
    "root at zero": ("masked", {"        x = self.drop(self.ln(x))\n": "        x = self.drop(self.ln(x))\n        x = x + 0.1 * ((x - x[:, :1]) ** 2).sum(-1, keepdim=True).sqrt()\n"}, "model.py:", {"        x = self.drop(self.ln(x))\n": "        x = self.drop(self.ln(x))\n        x = x + 0.1 * (((x - x[:, :1]) ** 2).sum(-1, keepdim=True) + 1e-6).sqrt()\n"}),
    "unit vectors of padding": ("classifier", {"            self.word_embeddings(input_ids)\n": "            self.word_embeddings(input_ids) / self.word_embeddings(input_ids).norm(dim=-1, keepdim=True)\n"}, "model.py:", {"            self.word_embeddings(input_ids)\n": "            F.normalize(self.word_embeddings(input_ids), dim=-1)\n", "import torch\n": "import torch\nimport torch.nn.functional as F\n"}),
    "mean of no tokens": ("classifier", {POOL: MASK + "        pooled = torch.tanh(self.pooler((x * m).sum(1) / m.sum(1)))\n"}, "model.py:", {POOL: MASK + "        pooled = torch.tanh(self.pooler((x * m).sum(1) / m.sum(1).clamp(min=1)))\n"}),
    "mean of all but one token": ("classifier", {POOL: MASK + "        pooled = torch.tanh(self.pooler((x * m).sum(1) / (m.sum(1) - 1)))\n"}, "model.py:", {POOL: MASK + "        pooled = torch.tanh(self.pooler((x * m).sum(1) / (m.sum(1) + 1)))\n"}),
    "divided by the logarithm of the length": ("rotary", {"        h = self.norm(h)\n": "        h = self.norm(h) / torch.log(torch.tensor(float(T)))\n"}, "model.py:", {"        h = self.norm(h)\n": "        h = self.norm(h) / torch.log(torch.tensor(float(T) + 1))\n"}),
    "mask of -1e9 in half": ("gpt", {"float(\"-inf\")": "-1e9"}, "attn", {"float(\"-inf\")": "torch.finfo(att.dtype).min"}),
    "angles in the format of the activations": ("rotary", {"        cos, sin = self.rotary(positions)\n": "        cos, sin = self.rotary(positions)\n", ANGLES: "f = positions.float()[:, None] @ self.inv_freq[None]"}, "rotary", {}),
    "sines in the format of the weights": ("gpt", {"x = self.drop(self.wte(idx) + self.wpe(pos))": "w = self.wte(idx)\n        a = torch.arange(T, dtype=w.dtype, device=idx.device)[:, None] * (10000.0 ** (-torch.arange(0, w.size(-1), 2, device=idx.device) / w.size(-1))).to(w.dtype)\n        x = self.drop(w + torch.cat([a.sin(), a.cos()], -1).to(w.dtype) + self.wpe(pos))"}, "model.py:", {"x = self.drop(self.wte(idx) + self.wpe(pos))": "w = self.wte(idx)\n        a = torch.arange(T, device=idx.device)[:, None].float() * (10000.0 ** (-torch.arange(0, w.size(-1), 2, device=idx.device) / w.size(-1)))\n        x = self.drop(w + torch.cat([a.sin(), a.cos()], -1).to(w.dtype) + self.wpe(pos))"}),
    "scores in bf16": ("gpt", {SCORES: "        att = (q.bfloat16() @ k.bfloat16().transpose(-2, -1)).to(q.dtype) * (1.0 / math.sqrt(k.size(-1)))\n"}, "attn", {}),
    "logits in half": ("gpt", {"logits = self.lm_head(x)": "logits = self.lm_head(x).half().float()"}, "model.py:", {}),
    "decay without a maximum": ("gpt", {CORE: "        w, s = k.exp(), q.sigmoid()\n        y = s * (w * v).cumsum(2) / w.cumsum(2)\n"}, "attn", {CORE: "        m = k.cummax(2)[0].amax(2, keepdim=True).detach()\n        w, s = (k - m).exp(), q.sigmoid()\n        y = s * (w * v).cumsum(2) / (w.cumsum(2) + 1e-6)\n"}),
    "decay divided out": ("gpt", {CORE: "        d = torch.exp(-F.softplus(k.mean(-1, keepdim=True)).cumsum(2))\n        y = d * ((k * v) / d).cumsum(2) / T\n"}, "attn", {CORE: "        d = -F.softplus(k.mean(-1, keepdim=True)).cumsum(2)\n        g = (d - d.transpose(2, 3)).masked_fill(self.tri[:, :, :T, :T] == 0, float(\"-inf\")).exp()\n        y = g @ (k * v) / T\n"}),
    "distance attention": ("gpt", {SCORES: "        att = -((q[:, :, :, None] - k[:, :, None]) ** 2).sum(-1).sqrt()\n", "        k = self.k(x).view": "        k = self.q(x).view"}, "attn", {SCORES: "        att = -(((q[:, :, :, None] - k[:, :, None]) ** 2).sum(-1) + 1e-6).sqrt()\n", "        k = self.k(x).view": "        k = self.q(x).view", "        self.k = nn.Linear(c[\"n_embd\"], c[\"n_embd\"])\n": ""}),
    "where over a division": ("masked", {"        x = self.drop(self.ln(x))\n": "        x = self.drop(self.ln(x))\n        c = (x - x[:, :1]).abs().sum(-1, keepdim=True)\n        x = x + torch.where(c > 0, x / c, torch.zeros_like(x)) * 0.1\n"}, "model.py:", {"        x = self.drop(self.ln(x))\n": "        x = self.drop(self.ln(x))\n        c = (x - x[:, :1]).abs().sum(-1, keepdim=True)\n        x = x + torch.where(c > 0, x / torch.where(c > 0, c, 1.0), torch.zeros_like(x)) * 0.1\n"}),
    "positions counted in half": ("masked", {"self.pe[:, : input_ids.size(1)]": "self.pe[0][(torch.ones_like(input_ids).bfloat16().cumsum(1) - 1).long()]"}, "model.py:", {"self.pe[:, : input_ids.size(1)]": "self.pe[0][torch.ones_like(input_ids).cumsum(1) - 1]"}),
    "masks added twice": ("masked", {"* -10000.0": "* torch.finfo(x.dtype).min * 2"}, "model.py:", {"* -10000.0": "* torch.finfo(x.dtype).min"}),
    "exponents of scores in the router": ("experts", {"F.softmax(self.router(flat), dim=-1)": "torch.exp(self.router(flat)) / torch.exp(self.router(flat)).sum(-1, keepdim=True)"}, "moe", {}),
    "norm of a constant row": ("gpt", _norm("return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * self.g + self.b") | {"        x = self.drop(self.wte(idx) + self.wpe(pos))\n": "        x = self.drop(self.wte(idx))\n", "        elif isinstance(m, nn.Embedding):\n            nn.init.normal_(m.weight, mean=0.0, std=0.02)\n": "        elif isinstance(m, nn.Embedding):\n            nn.init.normal_(m.weight, mean=0.0, std=0.02)\n            m.weight.data[0].zero_()\n"}, "ln_1", {}),
    "squares of a norm in half": ("gpt", _norm("y = x - x.mean(-1, keepdim=True); return y / (y.pow(2).mean(-1, keepdim=True) + self.eps).sqrt() * self.g + self.b"), "ln_1", _norm("y = x.float() - x.float().mean(-1, keepdim=True); return (y / (y.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()).to(x.dtype) * self.g + self.b")),
    "root mean square of products in half": ("gpt", _norm("return x / ((x * x).sum(-1, keepdim=True) / x.shape[-1] + self.eps).sqrt() * self.g + self.b"), "ln_1", _norm("return (x.float() / ((x.float() * x.float()).sum(-1, keepdim=True) / x.shape[-1] + self.eps).sqrt()).to(x.dtype) * self.g + self.b")),
    "sum over positions before it is divided": ("gpt", {"        x = self.drop(self.wte(idx) + self.wpe(pos))\n": "        w = self.wte(idx)\n        x = self.drop(w + self.wpe(pos)) + w.cumsum(1) / torch.arange(1, T + 1, device=idx.device, dtype=w.dtype)[:, None]\n"}, "model.py:", {"        x = self.drop(self.wte(idx) + self.wpe(pos))\n": "        w = self.wte(idx)\n        x = self.drop(w + self.wpe(pos)) + (w.float().cumsum(1) / torch.arange(1, T + 1, device=idx.device)[:, None]).to(w.dtype)\n"}),
    "eps of 1e-12 in a norm": ("gpt", _norm("v = x.var(-1, keepdim=True, unbiased=False); return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(v + 1e-12) * self.g + self.b"), "ln_1", _norm("y = x.float(); v = y.var(-1, keepdim=True, unbiased=False); return ((y - y.mean(-1, keepdim=True)) * torch.rsqrt(v + 1e-12)).to(x.dtype) * self.g + self.b")),
    "eps of 1e-12 under the vectors of padding": ("classifier", {"            self.word_embeddings(input_ids)\n": "            self.word_embeddings(input_ids) / (self.word_embeddings(input_ids).norm(dim=-1, keepdim=True) + 1e-12)\n"}, "model.py:", {"            self.word_embeddings(input_ids)\n": "            self.word_embeddings(input_ids) / (self.word_embeddings(input_ids).norm(dim=-1, keepdim=True) + 1e-6)\n"}),
    "eps of 1e-9 under a mean of no tokens": ("classifier", {POOL: MASK + "        pooled = torch.tanh(self.pooler((x * m).sum(1) / (m.sum(1) + 1e-9)))\n"}, "model.py:", {POOL: MASK + "        pooled = torch.tanh(self.pooler((x * m).sum(1) / (m.sum(1) + 1e-6)))\n"}),
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "squares of a norm in half": {"torch_dtype": "float16"},
    "root mean square of products in half": {"torch_dtype": "float16"},
    "sum over positions before it is divided": {"block_size": 300, "torch_dtype": "float16"},
    "angles in the format of the activations": {"max_position_embeddings": 512},
    "sines in the format of the weights": {"block_size": 512},
    "positions counted in half": {"max_seq_len": 500},
}
