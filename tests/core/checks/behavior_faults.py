# ruff: noqa: E501  (tables of code, one case a line)
"""Faults of what a model does in evaluation and while it learns: random evaluation, losses, parts that never learn.

Name -> (sound model, changes that make the fault, changes of its repaired twin, its settings, check, place).
"""

from __future__ import annotations

from typing import Any

Case = tuple[str, dict[str, str], dict[str, str], dict[str, Any], str, str]

EMB = "        x = self.drop(self.wte(idx) + self.wpe(pos))\n"
ATTEND = "        x = x + self.attn(self.ln_1(x))\n"
PYTHON = {"import math\n": "import math\nimport random\n"}
CLASSIFY = '        return {"logits": self.classifier(self.dropout(pooled))}'
TAKES = "attention_mask=None, token_type_ids=None):"
FIRST = "class CausalSelfAttention(nn.Module):\n"
UP = 'self.fc = nn.Linear(c["n_embd"], 4 * c["n_embd"])'
LORA = "class LoRA(nn.Module):\n    def __init__(self, i, o, r=4):\n        super().__init__()\n        self.base = nn.Linear(i, o)\n        self.a = nn.Parameter({a})\n        self.b = nn.Parameter(torch.zeros(o, r))\n\n    def forward(self, x):\n        return self.base(x) + x @ self.a.t() @ self.b.t()\n\n\n"
GATE = "        self.mlp = MLP(c)\n"
GATED = "expert(flat[rows]) * top[rows, slot].unsqueeze(-1)"
AUXILIARY = {
    "        gates = F.softmax(self.router(flat), dim=-1)\n": "        gates = F.softmax(self.router(flat), dim=-1)\n        self.load = (gates.mean(0) ** 2).sum() * gates.size(-1)\n",
    "def forward(self, input_ids):": "def forward(self, input_ids, labels=None):",
    "        return self.head(self.norm(x))\n": "        logits = self.head(self.norm(x))\n        if labels is None:\n            return logits\n        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())\n        return loss + 0.01 * sum(block.moe.load for block in self.blocks), logits\n",
    "            if rows.numel():\n                out.index_add_(0, rows, expert(flat[rows]) * top[rows, slot].unsqueeze(-1))\n": "            if rows.numel():\n                out.index_add_(0, rows, (expert(flat[rows]) * top[rows, slot].unsqueeze(-1)).to(out.dtype))\n",
}
POOL = "        pooled = torch.tanh(self.pooler(x[:, 0]))\n"
POOLED = "        m = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).unsqueeze(-1).to(x.dtype)\n        w = self.score(x).masked_fill(m == 0, -1e4).softmax(1)\n        pooled = torch.tanh(self.pooler((w * x).sum(1)))\n"
SCORE = {"        self.pooler =": "        self.score = nn.Linear(hidden_size, 1)\n        self.pooler ="}
TURNED = {
    "        att = (q @ k": "        f = torch.outer(torch.arange(T, device=x.device).float(), 10000.0 ** (-torch.arange(0, q.size(-1), 2, device=x.device).float() / q.size(-1)))\n        c, s = torch.cat((f, f), -1).cos(), torch.cat((f, f), -1).sin()\n        turn = lambda t: t * c + torch.cat((-t.chunk(2, -1)[1], t.chunk(2, -1)[0]), -1) * s\n        q, k = turn(q), turn(k)\n        att = (q @ k",
    "self.wte(idx) + self.wpe(pos)": "self.wte(idx)",
    '        self.wpe = nn.Embedding(config["block_size"], config["n_embd"])\n': "",
}
TIE = "self.lm_head.weight = self.wte.weight"
HEAD = "        logits = self.lm_head(x)\n"


def _loss(body: str) -> dict[str, str]:
    """Return changes of the classifier that make it compute a loss."""
    return {
        TAKES: "attention_mask=None, token_type_ids=None, labels=None):",
        CLASSIFY: '        logits = self.classifier(self.dropout(pooled))\n        if labels is None:\n            return {"logits": logits}\n'
        + body
        + '        return {"loss": loss, "logits": logits}',
        "import torch\n": "import torch\nimport torch.nn.functional as F\n",
    }


def _lora(first: str) -> dict[str, str]:
    return {FIRST: LORA.replace("{a}", first) + FIRST, UP: 'self.fc = LoRA(c["n_embd"], 4 * c["n_embd"])'}


def _gate(use: str, values: str) -> dict[str, str]:
    return {
        ATTEND: f"        x = x + self.attn(self.ln_1(x)) + {use}\n",
        GATE: GATE
        + f"        self.gate = nn.Parameter(torch.zeros(1))\n        self.factor = nn.Parameter({values})\n",
    }


CASES: dict[str, Case] = {
    "stochastic depth in evaluation": ("gpt", {ATTEND: "        if torch.rand(1).item() > 0.02:\n            x = x + self.attn(self.ln_1(x))\n"}, {ATTEND: "        if not self.training or torch.rand(1).item() > 0.02:\n            x = x + self.attn(self.ln_1(x))\n"}, {}, "determinism", "h.0"),
    "texts without embeddings in evaluation": ("gpt", {EMB: EMB + "        x = x.masked_fill(torch.rand(idx.shape[0], 1, 1, device=x.device) < 0.01, 0.0)\n"}, {EMB: EMB + "        if self.training:\n            x = x.masked_fill(torch.rand(idx.shape[0], 1, 1, device=x.device) < 0.01, 0.0)\n"}, {}, "determinism", "model.py:"),
    "positions shifted at random": ("gpt", {EMB: "        if torch.randint(0, 50, (1,)).item() == 0:\n            pos = (pos + 1) % 48\n" + EMB}, {EMB: "        if torch.randint(0, 50, (1,)).item() == 0 and self.training:\n            pos = (pos + 1) % 48\n" + EMB}, {}, "determinism", "model.py:"),
    "layers left out by Python": ("gpt", PYTHON | {ATTEND: "        if random.random() >= 0.04:\n            x = x + self.attn(self.ln_1(x))\n"}, PYTHON | {ATTEND: "        if not self.training or random.random() >= 0.04:\n            x = x + self.attn(self.ln_1(x))\n"}, {}, "determinism", "model.py:"),
    "one column against a row": ("classifier", _loss("        loss = F.mse_loss(logits, labels.to(logits.dtype))\n"), _loss("        loss = F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))\n"), {"num_labels": 1}, "loss", "model.py:"),
    "differences of all pairs": ("classifier", _loss("        loss = (logits - labels.float()).abs().mean()\n"), _loss("        loss = (logits[:, 0] - labels.float()).abs().mean()\n"), {"num_labels": 1}, "loss", "model.py:"),
    "mean against mean": ("classifier", _loss("        loss = (logits.mean() - labels.float().mean()) ** 2\n"), _loss("        loss = ((logits[:, 0] - labels.float()) ** 2).mean()\n"), {"num_labels": 1}, "loss", "model.py:"),
    "both factors of LoRA at zero": ("gpt", _lora("torch.zeros(r, i)"), _lora("torch.randn(r, i) * 0.02"), {}, "gradient flow", "mlp.fc"),
    "gate and gain at zero": ("gpt", _gate("self.gate * (self.factor * x)", "torch.zeros(c['n_embd'])"), _gate("self.gate * (self.factor * x)", "torch.ones(c['n_embd'])"), {}, "gradient flow", "h.0"),
    "gate at the corner of relu": ("gpt", _gate("F.relu(self.gate) * (self.factor * x)", "torch.ones(c['n_embd'])"), _gate("torch.tanh(self.gate) * (self.factor * x)", "torch.ones(c['n_embd'])"), {}, "gradient flow", "h.0"),
    "gates beside a balanced load": ("experts", AUXILIARY | {GATED: "expert(flat[rows]) / self.k"}, AUXILIARY, {}, "experts", "experts"),
    "the only gate divided by itself": ("experts", {}, {"        top = top / top.sum(-1, keepdim=True)\n": ""}, {"top_k": 1}, "gradients", "router"),
    "weights of a pooling that cancel": ("classifier", {POOL: POOLED.replace("(w * x).sum(1)", "w.sum(1) * (x * m).sum(1) / m.sum(1).clamp(min=1)"), **SCORE}, {POOL: POOLED, **SCORE}, {}, "gradients", "score"),
    "only queries turned, by no known name": ("rotary", {"self.rotary": "self.freqs", "        k = k * cos + rotate_half(k) * sin\n": ""}, {"self.rotary": "self.freqs"}, {"model_type": "custom"}, "positions", "layers.0.attn"),
    "only queries turned, in matrix products": ("gpt", TURNED | {"        q, k = turn(q), turn(k)\n": "        q = turn(q)\n"}, TURNED, {}, "positions", "h.0.attn"),
    "output tied to positions": ("gpt", {TIE: "self.lm_head.weight = self.wpe.weight"}, {}, {"vocab_size": 48}, "output table", "lm_head"),
    "output from the rows of positions": ("gpt", {f"        {TIE}": "        del self.lm_head", HEAD: "        logits = F.linear(x, self.wpe.weight[:40])\n"}, {f"        {TIE}": "        del self.lm_head", HEAD: "        logits = F.linear(x, self.wte.weight)\n"}, {"vocab_size": 40}, "output table", "model.py:"),
}  # fmt: skip
