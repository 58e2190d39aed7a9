# ruff: noqa: E501  (tables of code, one case a line)
"""Sound models of many styles, and unusual designs that are intended: no errors, no warnings."""

from __future__ import annotations

import pytest

from tests.core.checks.zoo import CONFIGS, write_model
from transformer_foundry.core.checks import run_checks, runner

# design: (sound model, changes of its code, changes of its configuration)
DESIGNS = {
    "gpt: rezero": ("gpt", {"x = x + self.attn(self.ln_1(x))": "x = x + self.alpha * self.attn(self.ln_1(x))", "        self.mlp = MLP(c)\n": "        self.mlp = MLP(c)\n        self.alpha = nn.Parameter(torch.zeros(1))\n"}, {}),
    "gpt: zero init out": ("gpt", {"        self.lm_head.weight = self.wte.weight": "        for b in self.h:\n            nn.init.zeros_(b.attn.proj.weight); nn.init.zeros_(b.mlp.proj.weight)\n        self.lm_head.weight = self.wte.weight"}, {}),
    "gpt: sandwich norm": ("gpt", {"x = x + self.attn(self.ln_1(x))": "x = x + self.ln_3(self.attn(self.ln_1(x)))", "        self.mlp = MLP(c)\n": "        self.mlp = MLP(c)\n        self.ln_3 = nn.LayerNorm(c['n_embd'])\n"}, {}),
    "masked: deepnorm": ("masked", {"x = self.ln1(x + self.drop(self.att(x, bias)))": "x = self.ln1(x * 1.68 + self.drop(self.att(x, bias)))"}, {}),
    "gpt: universal": ("gpt", {"nn.ModuleList([Block(config) for _ in range(config[\"n_layer\"])])": "nn.ModuleList([Block(config)])", "for block in self.h:": "for block in list(self.h) * self.config['n_layer']:"}, {}),
    "rotary: parallel block": ("rotary", {"        x = x + self.attn(self.attn_norm(x), cos, sin)\n        x = x + self.ffn(self.ffn_norm(x))\n        return x": "        n = self.attn_norm(x)\n        return x + self.attn(n, cos, sin) + self.ffn(n)", "        self.ffn_norm = Norm(dim)\n": ""}, {}),
    "rotary: softcap": ("rotary", {"logits = self.lm_head(h)": "logits = 30.0 * torch.tanh(self.lm_head(h) / 30.0)"}, {}),
    "gpt: attention softcap": ("gpt", {"        att = att.masked_fill": "        att = 50.0 * torch.tanh(att / 50.0)\n        att = att.masked_fill"}, {}),
    "gpt: sliding window": ("gpt", {"att = F.softmax(att, dim=-1)": "w = torch.ones(T, T, device=x.device, dtype=torch.bool).tril(-4)\n        att = att.masked_fill(w, float('-inf'))\n        att = F.softmax(att, dim=-1)"}, {}),
    "rotary: nope": ("rotary", {"        q = q * cos + rotate_half(q) * sin\n        k = k * cos + rotate_half(k) * sin\n": "", "        self.rotary = Rotary(hidden_size // num_attention_heads)\n": "", "        cos, sin = self.rotary(positions)\n": "        cos = sin = None\n"}, {}),
    "rotary: qk norm": ("rotary", {"        q = q * cos": "        q, k = F.normalize(q, dim=-1) * self.g, F.normalize(k, dim=-1)\n        q = q * cos", "        self.wo = nn.Linear(heads": "        self.g = nn.Parameter(torch.tensor(10.0))\n        self.wo = nn.Linear(heads", "is_causal=True": "is_causal=True, scale=1.0"}, {}),
    "gpt: layerdrop": ("gpt", {"            x = block(x)\n": "            if self.training and torch.rand(()) < 0.2:\n                continue\n            x = block(x)\n"}, {}),
    "gpt: stochastic depth per sample": ("gpt", {"x = x + self.mlp(self.ln_2(x))": "keep = (torch.rand(x.shape[0], 1, 1, device=x.device) > 0.1).to(x.dtype) if self.training else 1.0\n        x = x + keep * self.mlp(self.ln_2(x))"}, {}),
    "rotary: lora frozen base": ("rotary", {"self.wq = nn.Linear(dim, heads * self.hd, bias=False)": "self.wq = nn.Linear(dim, heads * self.hd, bias=False); self.la = nn.Linear(dim, 4, bias=False); self.lb = nn.Linear(4, heads * self.hd, bias=False)", "q = self.wq(x)": "q = (self.wq(x) + self.lb(self.la(x)))"}, {}),
    "rotary: fake quant STE": ("rotary", {"return self.wo(y)": "s = y.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127\n        y = y + ((y / s).round() * s - y).detach()\n        return self.wo(y)"}, {}),
    "rotary: vocab 11": ("rotary", {}, {"vocab_size": 11}),
    "rotary: tiny width": ("rotary", {}, {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}),
    "gpt: length 8": ("gpt", {}, {"block_size": 8}),
    "gpt: one layer one head": ("gpt", {}, {"n_layer": 1, "n_head": 1}),
    "gpt: 12 heads of 3": ("gpt", {}, {"n_head": 12}),
    "gpt: matmul head": ("gpt", {"        logits = self.lm_head(x)": "        logits = x @ self.wte.weight.t()", "        self.lm_head = nn.Linear(config[\"n_embd\"], config[\"vocab_size\"], bias=False)\n": "", "        self.lm_head.weight = self.wte.weight\n": ""}, {}),
    "rotary: multi query": ("rotary", {}, {"num_key_value_heads": 1}),
    "rotary: multi token heads": ("rotary", {"            loss = F.cross": "            more = self.extra(h)[:, :-2]\n            loss = 0.3 * F.cross_entropy(more.reshape(-1, more.size(-1)), labels[:, 2:].reshape(-1), ignore_index=-100) + F.cross", "        self.lm_head = nn": "        self.extra = nn.Linear(hidden_size, vocab_size, bias=False)\n        self.lm_head = nn"}, {}),
    "classifier: mean pooled masked": ("classifier", {"pooled = torch.tanh(self.pooler(x[:, 0]))": "m = torch.ones_like(input_ids) if attention_mask is None else attention_mask\n        m = m.unsqueeze(-1).to(x.dtype)\n        pooled = torch.tanh(self.pooler((x * m).sum(1) / m.sum(1).clamp(min=1)))"}, {}),
    "classifier: one number": ("classifier", {}, {"num_labels": 1}),
    "classifier: one sigmoid": ("classifier", {"self.classifier(self.dropout(pooled))": "self.classifier(self.dropout(pooled)).sigmoid().squeeze(-1)"}, {"num_labels": 1}),
    "classifier: a sigmoid for each label": ("classifier", {"self.classifier(self.dropout(pooled))": "self.classifier(self.dropout(pooled)).sigmoid()"}, {}),
    "classifier: max pooled masked": ("classifier", {"pooled = torch.tanh(self.pooler(x[:, 0]))": "m = torch.ones_like(input_ids) if attention_mask is None else attention_mask\n        pooled = torch.tanh(self.pooler(x.masked_fill(m[..., None] == 0, -1e4).amax(1)))"}, {}),
    "classifier: last token by mask": ("classifier", {"pooled = torch.tanh(self.pooler(x[:, 0]))": "m = torch.ones_like(input_ids) if attention_mask is None else attention_mask\n        pooled = torch.tanh(self.pooler(x[torch.arange(len(x), device=x.device), m.sum(1) - 1]))"}, {}),
    "gpt: linear attention": ("gpt", {"        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))\n        att = att.masked_fill(self.tri[:, :, :T, :T] == 0, float(\"-inf\"))\n        att = F.softmax(att, dim=-1)\n        att = self.drop(att)\n        y = att @ v\n": "        q, k = F.elu(q) + 1, F.elu(k) + 1\n        kv = torch.einsum(\"bhtd,bhte->bhtde\", k, v).cumsum(2)\n        z = 1 / (torch.einsum(\"bhtd,bhtd->bht\", q, k.cumsum(2)) + 1e-6)\n        y = torch.einsum(\"bhtd,bhtde,bht->bhte\", q, kv, z)\n"}, {}),
    "mixers: hyena fft conv": ("mixers", {"import torch.nn as nn": "import torch\nimport torch.nn as nn", "        y = F.pad(x.transpose(1, 2), (self.k - 1, 0))\n        y = self.conv(y).transpose(1, 2)\n": "        T = x.shape[1]\n        f = self.filt[:, :T]\n        y = torch.fft.irfft(torch.fft.rfft(x.transpose(1, 2), 2 * T) * torch.fft.rfft(f, 2 * T), 2 * T)[..., :T].transpose(1, 2)\n", "        self.conv = nn.Conv1d(d, d, k, groups=d)\n": "        self.filt = nn.Parameter(torch.randn(d, 64) * 0.1)\n"}, {}),
    "mixers: s4d recurrence": ("mixers", {"import torch.nn as nn": "import torch\nimport torch.nn as nn", "        y, _ = self.rnn(x)\n": "        a = torch.sigmoid(self.a)\n        h = torch.zeros_like(x[:, 0])\n        ys = []\n        for t in range(x.shape[1]):\n            h = a * h + (1 - a) * x[:, t]\n            ys.append(h)\n        y = torch.stack(ys, 1)\n", "        self.rnn = nn.GRU(d, d, batch_first=True)\n": "        self.a = nn.Parameter(torch.randn(d))\n"}, {}),
    "rotary: token shift": ("rotary", {"        q = self.wq(x).view": "        x = 0.5 * x + 0.5 * F.pad(x, (0, 0, 1, 0))[:, :T]\n        q = self.wq(x).view"}, {}),
    "rotary: rope interleaved partial": ("rotary", {"        q = q * cos + rotate_half(q) * sin\n        k = k * cos + rotate_half(k) * sin\n": "        def turn(t):\n            r, p = t[..., :8], t[..., 8:]\n            c, s = cos[..., :4].repeat_interleave(2, -1), sin[..., :4].repeat_interleave(2, -1)\n            o = torch.stack((-r[..., 1::2], r[..., ::2]), -1).flatten(-2)\n            return torch.cat((r * c + o * s, p), -1)\n        q, k = turn(q), turn(k)\n"}, {}),
    "masked: sinusoid concat halves": ("masked", {"        pe[:, 0::2] = torch.sin(position * div)\n        pe[:, 1::2] = torch.cos(position * div)\n": "        pe = torch.cat([torch.sin(position * div), torch.cos(position * div)], 1)\n"}, {}),
    "gpt: prefix lm": ("gpt", {"self.tri[:, :, :T, :T] == 0": "(self.tri[:, :, :T, :T] == 0) & (torch.arange(T, device=x.device) >= 4)"}, {"prefix_length": 4}),
    "gpt: sparse strided": ("gpt", {"self.tri[:, :, :T, :T] == 0": "(self.tri[:, :, :T, :T] == 0) | ((torch.arange(T, device=x.device)[:, None] - torch.arange(T, device=x.device)[None, :] > 3) & (torch.arange(T, device=x.device)[None, :] % 4 != 3))"}, {}),
    "experts: switch top1": ("experts", {"expert(flat[rows]) * top[rows, slot].unsqueeze(-1)": "(expert(flat[rows]) * gates[rows, e].unsqueeze(-1)).to(out.dtype)"}, {"top_k": 1}),
    "gpt: glu geglu relu2": ("gpt", {"h = F.gelu(h)": "h = F.relu(h) ** 2"}, {}),
    "gpt: gated attention": ("gpt", {"return self.proj(y)": "return self.proj(y * torch.sigmoid(self.q(x)))"}, {}),
    "gpt: additive coupling reversible": ("gpt", {"        x = x + self.attn(self.ln_1(x))\n        x = x + self.mlp(self.ln_2(x))\n        return x": "        a, b = x, x\n        a = a + self.attn(self.ln_1(b))\n        b = b + self.mlp(self.ln_2(a))\n        return (a + b) / 2"}, {}),
    "t5: t5 gated": ("t5", {"return self.wo(F.relu(self.wi(x)))": "return self.wo(F.gelu(self.wi(x)) * self.wg(x))", "        self.wo = nn.Linear(f, d, bias=False)\n": "        self.wo = nn.Linear(f, d, bias=False)\n        self.wg = nn.Linear(d, f, bias=False)\n"}, {}),
    "gpt: wpe in every layer": ("gpt", {"            x = block(x)\n": "            x = block(x + self.wpe(pos))\n"}, {}),
    "gpt: value embeddings / x0 skip": ("gpt", {"            x = block(x)\n": "            x = block(x) + 0.1 * x0\n", "        for block in self.h:": "        x0 = x\n        for block in self.h:"}, {}),
    "gpt: attention only": ("gpt", {"        x = x + self.mlp(self.ln_2(x))\n": "", "        self.ln_2 = nn.LayerNorm(c[\"n_embd\"])\n": "", "        self.mlp = MLP(c)\n": ""}, {}),
    "gpt: embeddings of N(0, 1), tied": ("gpt", {"        self.lm_head.weight = self.wte.weight": "        nn.init.normal_(self.wte.weight)\n        self.lm_head.weight = self.wte.weight"}, {}),
    "rotary: labels of -1 ignored": ("rotary", {"ignore_index=-100": "ignore_index=-1"}, {}),
    "gpt: mixing weights of one value": ("gpt", {"        self.mlp = MLP(c)\n": "        self.mlp = MLP(c)\n        self.mix = nn.Parameter(torch.full((2, c['n_embd']), 0.5))\n", "x = x + self.mlp(self.ln_2(x))": "y = self.ln_2(x)\n        x = x + self.mlp(y * self.mix[0] + F.pad(y, (0, 0, 1, 0))[:, :-1] * self.mix[1])"}, {}),
    "classifier: two texts compared": ("classifier", {"self.classifier = nn.Linear(hidden_size, num_labels)": "self.classifier = nn.Linear(2 * hidden_size, num_labels)", "def forward(self, input_ids, attention_mask=None, token_type_ids=None):\n": "def encode(self, ids, mask, types):\n        return self.hidden(ids, mask, types)\n\n    def forward(self, input_ids, attention_mask=None, second_ids=None, second_mask=None):\n        a = self.hidden(input_ids, attention_mask, None)\n        b = torch.zeros_like(a) if second_ids is None else self.hidden(second_ids, second_mask, None)\n        return {\"logits\": self.classifier(torch.cat([a, b], -1))}\n\n    def hidden(self, input_ids, attention_mask=None, token_type_ids=None):\n", "        return {\"logits\": self.classifier(self.dropout(pooled))}": "        return self.dropout(pooled)"}, {}),
    "masked: a head of sentence pairs": ("masked", {"        self.apply(self.reset)\n": "        self.pooler, self.pair = nn.Linear(d_model, d_model), nn.Linear(d_model, 2)\n        self.apply(self.reset)\n", "labels=None):": "labels=None, next_sentence_label=None):", "        if labels is not None:\n": "        pair = self.pair(torch.tanh(self.pooler(x[:, 0])))\n        if next_sentence_label is not None:\n            return F.cross_entropy(pair, next_sentence_label), logits\n        if labels is not None:\n"}, {}),
}  # fmt: skip

_STATE = """        u, gate = self.up(x).chunk(2, -1)
        step = F.softplus(u)
        h, found = x.new_zeros(len(x), u.size(-1), 4), []
        for t in range(x.size(1)):
            h = torch.exp(-step[:, t, :, None] * self.rate) * h + (step[:, t] * u[:, t] * self.spread)[..., None] * self.enter(x[:, t])[:, None]
            found.append((h * self.leave(x[:, t])[:, None]).sum(-1))
        y = torch.stack(found, 1) * torch.sigmoid(gate)
"""
_CACHED = {
    "def forward(self, x):\n        B, T, C = x.size()": "def forward(self, x, cache):\n        B, T, C = x.size()",
    "        att = (q @": "        if self in cache:\n            k, v = (torch.cat(pair, 2) for pair in zip(cache[self], (k, v)))\n        cache[self] = k, v\n        S = k.size(2)\n        att = (q @",
    "self.tri[:, :, :T, :T]": "self.tri[:, :, S - T : S, :S]",
    "    def forward(self, x):\n        x = x + self.attn(self.ln_1(x))": "    def forward(self, x, cache):\n        x = x + self.attn(self.ln_1(x), cache)",
    "targets=None):": "targets=None, begin=0, cache=None):",
    "pos = torch.arange(0, T, dtype=torch.long, device=idx.device)": "pos = torch.arange(begin, begin + T, device=idx.device)\n        cache = {} if cache is None else cache",
    "x = block(x)": "x = block(x, cache)",
}
_PAIR = {
    "def forward(self, input_ids, attention_mask=None, token_type_ids=None):\n        _B, T = input_ids.shape\n        if token_type_ids is None:\n            token_type_ids = torch.zeros_like(input_ids)\n        positions = torch.arange(T, device=input_ids.device).unsqueeze(0)\n": (
        "def text(self, input_ids, chosen):\n        positions = (chosen.long().cumsum(1) - 1).clamp(min=0)\n"
    ),
    "\n            + self.token_type_embeddings(token_type_ids)": "",
    "        self.token_type_embeddings = nn.Embedding(type_vocab_size, hidden_size)\n": "",
    "        pad = None if attention_mask is None else attention_mask == 0\n": "        pad = ~chosen\n        pad[:, 0] = False\n",
    "nn.Linear(hidden_size, num_labels)": "nn.Linear(2 * hidden_size, num_labels)",
    "        pooled = torch.tanh(self.pooler(x[:, 0]))\n": "        part = chosen.unsqueeze(-1).to(x.dtype)\n        return torch.tanh(self.pooler((x * part).sum(1) / part.sum(1).clamp(min=1)))\n",
    '        return {"logits": self.classifier(self.dropout(pooled))}': (
        "\n    def forward(self, input_ids, attention_mask=None, token_type_ids=None):\n"
        "        real = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()\n"
        "        if token_type_ids is None:\n"
        "            token_type_ids = (2 * real.cumsum(1) > real.sum(1, keepdim=True) + 1).long()\n"
        "        both = [self.text(input_ids, real & (token_type_ids == side)) for side in (0, 1)]\n"
        '        return {"logits": self.classifier(self.dropout(torch.cat(both, -1)))}'
    ),
}
# design: (check that once took it for a fault, sound model, changes of its code, changes of its configuration)
MISTAKEN = {
    "direction from the end of the text": ("origins of attention", "masked", {"            x = layer(x, bias)\n": "            x = layer(x.flip(1), bias.flip(-1)).flip(1)\n"}, {}),
    "lengths of packed texts": ("devices", "classifier", {"        x = self.dropout(self.norm(x))\n": "        x = self.dropout(self.norm(x))\n        sizes = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).sum(1).clamp(min=1)\n        packed = nn.utils.rnn.pack_padded_sequence(x, sizes.cpu(), batch_first=True, enforce_sorted=False)\n        x = x + nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=T)[0]\n", "        self.pooler =": "        self.rnn = nn.GRU(hidden_size, hidden_size, batch_first=True)\n        self.pooler ="}, {}),
    "state as wide as the text is long": ("growth", "mixers", {"import torch.nn as nn": "import torch\nimport torch.nn as nn", "        y, _ = self.rnn(x)\n": _STATE, "        self.rnn = nn.GRU(d, d, batch_first=True)\n        self.out = nn.Linear(d, d)": "        self.up, self.enter, self.leave = nn.Linear(d, 4 * d), nn.Linear(d, 4), nn.Linear(d, 4)\n        self.rate = nn.Parameter(torch.arange(1.0, 5.0))\n        self.register_buffer('spread', torch.linspace(0.01, 1.0, 2 * d))\n        self.out = nn.Linear(2 * d, d)"}, {}),
    "one expert for each token": ("growth", "experts", {"            if rows.numel():\n                out.index_add_(0, rows, expert(flat[rows]) * top[rows, slot].unsqueeze(-1))\n        return out.view(B, T, D)": "            hit = (index == e).any(-1, keepdim=True).view(B, T, 1)\n            out = out.view(B, T, D) + torch.where(hit, expert(x) * gates.amax(-1).view(B, T, 1), 0.0)\n        return out", "        top = top / top.sum(-1, keepdim=True)\n": ""}, {"top_k": 1, "num_experts": 8, "n_layers": 4}),
    "cache in a mapping, and where it begins": ("cached path", "gpt", _CACHED, {}),
    "row of two texts": ("rows", "classifier", _PAIR, {}),
}  # fmt: skip


def assert_silent(report):
    assert [(finding.check, finding.message, finding.where) for finding in report.problems] == []
    stumbled = [finding.message for finding in report.findings if "could not be carried out" in finding.message]
    assert stumbled == []


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sound_model_of_the_zoo_raises_no_alarm(name, tmp_path):
    assert_silent(run_checks(write_model(tmp_path / "export", name)))


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_an_unusual_design_raises_no_alarm(design, tmp_path):
    name, changes, settings = DESIGNS[design]
    assert_silent(run_checks(write_model(tmp_path / "export", name, changes, **settings)))


@pytest.mark.parametrize("design", MISTAKEN)
def test_a_check_is_not_mistaken_about_a_sound_design(design, tmp_path, monkeypatch):
    check, name, changes, settings = MISTAKEN[design]
    monkeypatch.setattr(runner, "CHECKS", tuple(item for item in runner.CHECKS if item.name in ("sizes", check)))
    assert_silent(run_checks(write_model(tmp_path / "export", name, changes, **settings)))


@pytest.mark.slow
@pytest.mark.parametrize("design", MISTAKEN)
def test_a_design_once_mistaken_raises_no_alarm(design, tmp_path):
    _, name, changes, settings = MISTAKEN[design]
    assert_silent(run_checks(write_model(tmp_path / "export", name, changes, **settings)))
