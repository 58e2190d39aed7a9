# ruff: noqa: E501  (tables of code, one case a line)
"""Faults that training shows: in the model's own loss, for confident answers, in whole numbers, on long texts.

Name -> (sound model, changes, place, changes of its repaired twin), as in ``faults``.
"""

from __future__ import annotations

GELU = "        h = F.gelu(h)\n"
CORE = '        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))\n        att = att.masked_fill(self.tri[:, :, :T, :T] == 0, float("-inf"))\n        att = F.softmax(att, dim=-1)\n        att = self.drop(att)\n        y = att @ v\n'
ROT_LOSS = "            loss = F.cross_entropy(\n                shift_logits.view(-1, shift_logits.size(-1)), shift_labels.view(-1), ignore_index=-100\n            )\n"
MASK_LOSS = "            loss = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)\n"
POOL = "        pooled = torch.tanh(self.pooler(x[:, 0]))\n"
M = "        m = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).unsqueeze(-1).to(x.dtype)\n"
EMB = "        x = self.drop(self.wte(idx) + self.wpe(pos))\n"
PE = "        div = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))\n"
RNORM = "        n = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)\n        return n.to(x.dtype) * self.weight\n"
INV = "1.0 / base ** (torch.arange(0, dim, 2).float() / dim)"


def _rl(body: str) -> dict[str, str]:
    return {
        ROT_LOSS: "            lab = shift_labels.reshape(-1)\n            flat = shift_logits.reshape(-1, shift_logits.size(-1))[lab != -100]\n            lab = lab[lab != -100]\n"
        + body
    }


CRF = """            em = logits
            lab = labels.clamp(min=0)
            m = (labels != -100).to(em.dtype)
            alpha = em[:, 0]
            gold = em[:, 0].gather(1, lab[:, :1]).squeeze(1)
            for t in range(1, em.size(1)):
                nxt = {step} + em[:, t]
                gold = gold + m[:, t] * (em[:, t].gather(1, lab[:, t : t + 1]).squeeze(1) + self.trans[lab[:, t - 1], lab[:, t]])
                alpha = torch.where(m[:, t, None] > 0, nxt, alpha)
            loss = ({end} - gold).sum() / m.sum()
"""


def _crf(step: str, end: str) -> dict[str, str]:
    return {
        MASK_LOSS: CRF.format(step=step, end=end),
        "        self.apply(self.reset)\n": "        self.trans = nn.Parameter(torch.zeros(vocab_size, vocab_size))\n        self.apply(self.reset)\n",
    }


LIN = '        q, k = {f}(q), {f}(k)\n        kv = torch.einsum("bhtd,bhte->bhtde", k, v).cumsum(2)\n        z = {z}\n        y = torch.einsum("bhtd,bhtde->bhte", q, kv) * z[..., None]\n'


def _lin(f: str, z: str) -> dict[str, str]:
    return {CORE: LIN.format(f=f, z=z)}


DEN = 'torch.einsum("bhtd,bhtd->bht", q, k.cumsum(2))'
COPY = "        logits = self.lm_head(x)\n"


def _copy(body: str) -> dict[str, str]:
    return {
        COPY: "        p = F.softmax(self.lm_head(x), -1)\n        g = torch.sigmoid(self.gate(x))\n        s = (x @ x.transpose(1, 2)) / math.sqrt(x.size(-1))\n        s = s.masked_fill(torch.ones(T, T, device=x.device).triu(1).bool(), float('-inf')).softmax(-1)\n        c = torch.zeros_like(p).scatter_add(2, idx[:, None].expand(-1, T, -1), s.to(p.dtype))\n"
        + body,
        "        self.apply(self._init)\n": '        self.gate = nn.Linear(config["n_embd"], 1)\n        self.apply(self._init)\n',
    }


TRAINING_FAULTS: dict[str, tuple[str, dict[str, str], str, dict[str, str]]] = {
    "loss summed in half": ("rotary", _rl("            loss = F.cross_entropy(flat, lab, reduction='none').half().sum() / lab.numel()\n"), "model.py:", _rl("            loss = F.cross_entropy(flat, lab, reduction='none').sum() / lab.numel()\n")),
    "loss accumulated in bf16": ("masked", {MASK_LOSS: "            total = torch.zeros((), dtype=torch.bfloat16, device=logits.device)\n            for t in range(labels.size(1)):\n                total = total + F.cross_entropy(logits[:, t], labels[:, t], ignore_index=-100, reduction='sum').bfloat16()\n            loss = total.float() / (labels != -100).sum()\n"}, "model.py:", {MASK_LOSS: "            total = torch.zeros((), device=logits.device)\n            for t in range(labels.size(1)):\n                total = total + F.cross_entropy(logits[:, t], labels[:, t], ignore_index=-100, reduction='sum')\n            loss = total / (labels != -100).sum()\n"}),
    "log of softmax as output, tied": ("gpt", {COPY: "        logits = torch.log(torch.softmax(self.lm_head(x), dim=-1))\n"}, "model.py:", {COPY: "        logits = F.log_softmax(self.lm_head(x), dim=-1)\n"}),
    "entropy bonus": ("rotary", _rl("            p = flat.softmax(-1)\n            loss = F.cross_entropy(flat, lab) + 0.01 * (p * p.log()).sum(-1).mean()\n"), "model.py:", _rl("            p = flat.softmax(-1)\n            loss = F.cross_entropy(flat, lab) + 0.01 * (p * flat.log_softmax(-1)).sum(-1).mean()\n")),
    "z loss by hand": ("rotary", _rl("            z = flat.exp().sum(-1).log()\n            loss = F.cross_entropy(flat, lab) + 1e-4 * z.pow(2).mean()\n"), "model.py:", _rl("            z = flat.logsumexp(-1)\n            loss = F.cross_entropy(flat, lab) + 1e-4 * z.pow(2).mean()\n")),
    "crf without maximum": ("masked", _crf("torch.log((torch.exp(alpha)[:, :, None] * torch.exp(self.trans)[None]).sum(1))", "torch.log(torch.exp(alpha).sum(1))"), "model.py:", _crf("torch.logsumexp(alpha[:, :, None] + self.trans[None], 1)", "torch.logsumexp(alpha, 1)")),
    "uint8 mask minus one": ("masked", {"(1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0": "(attention_mask.byte()[:, None, None, :] - 1).to(x.dtype) * 10000.0"}, "model.py:", {"(1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0": "(attention_mask[:, None, None, :].to(x.dtype) - 1) * 10000.0"}),
    "integer frequencies": ("rotary", {INV: "1.0 / base ** (torch.arange(0, dim, 2) // dim)"}, "", {INV: "1.0 / base ** (torch.arange(0, dim, 2) / dim)"}),
    "integer power overflows": ("masked", {PE: "        div = 1.0 / (10 ** torch.arange(0, 4 * (d_model // 2), 4)).float()\n"}, "", {PE: "        div = 1.0 / (1000.0 ** (torch.arange(0, d_model, 2) / d_model))\n"}),
    "positions in int8": ("gpt", {"dtype=torch.long, device=idx.device)": "dtype=torch.long, device=idx.device).to(torch.int8).long() % self.config['block_size']"}, "model.py:", {}),
    "classifier attention all masked": ("classifier", {"need_weights=False": "need_weights=True"}, "", {}),
    "pool by log of counts": ("classifier", {POOL: M + "        pooled = torch.tanh(self.pooler((x * m).sum(1) * torch.exp(-torch.log(m.sum(1)))))\n"}, "model.py:", {POOL: M + "        pooled = torch.tanh(self.pooler((x * m).sum(1) * torch.exp(-torch.log(m.sum(1).clamp(min=1)))))\n"}),
    "attention pool of minus infinity": ("classifier", {POOL: M + "        w = self.score(x).masked_fill(m == 0, float('-inf')).softmax(1)\n        pooled = torch.tanh(self.pooler((w * x).sum(1)))\n", "        self.pooler =": "        self.score = nn.Linear(hidden_size, 1)\n        self.pooler ="}, "model.py:", {POOL: M + "        w = self.score(x).masked_fill(m == 0, -1e4).softmax(1)\n        pooled = torch.tanh(self.pooler((w * x).sum(1)))\n", "        self.pooler =": "        self.score = nn.Linear(hidden_size, 1)\n        self.pooler ="}),
    "linear attention, sum of positive keys": ("gpt", _lin("(lambda t: F.elu(t) + 1)", "torch.ones_like(q[..., 0])"), "attn", _lin("(lambda t: F.elu(t) + 1)", "1 / (" + DEN + " + 1e-6)")),
    "linear attention of relu, no eps": ("gpt", _lin("F.relu", "1 / " + DEN), "attn", _lin("F.relu", "1 / (" + DEN + " + 1e-4)")),
    "copy gate with log of zero": ("gpt", _copy("        logits = torch.log(g * p + (1 - g) * c)\n"), "model.py:", _copy("        logits = torch.log((g * p + (1 - g) * c).clamp(min=1e-6))\n")),
    "mixture of softmaxes": ("gpt", {COPY: "        w = self.pi(x).softmax(-1)\n        y = torch.tanh(self.lat(x)).unflatten(-1, (2, -1))\n        logits = (w[..., None] * F.softmax(self.lm_head(y), -1)).sum(-2).log()\n", "        self.apply(self._init)\n": "        self.pi, self.lat = nn.Linear(config[\"n_embd\"], 2), nn.Linear(config[\"n_embd\"], 2 * config[\"n_embd\"])\n        self.apply(self._init)\n"}, "model.py:", {COPY: "        w = self.pi(x).log_softmax(-1)\n        y = torch.tanh(self.lat(x)).unflatten(-1, (2, -1))\n        logits = (w[..., None] + F.log_softmax(self.lm_head(y), -1)).logsumexp(-2)\n", "        self.apply(self._init)\n": "        self.pi, self.lat = nn.Linear(config[\"n_embd\"], 2), nn.Linear(config[\"n_embd\"], 2 * config[\"n_embd\"])\n        self.apply(self._init)\n"}),
    "rms in an explicit half": ("rotary", {RNORM: "        h = x.half()\n        n = h * torch.rsqrt((h * h).mean(-1, keepdim=True) + self.eps)\n        return n.to(x.dtype) * self.weight\n"}, "norm", {RNORM: "        h = x.float()\n        n = h * torch.rsqrt((h * h).mean(-1, keepdim=True) + self.eps)\n        return n.to(x.dtype) * self.weight\n"}),
    "signed root": ("gpt", {GELU: "        h = torch.where(h > 0, h.sqrt(), -(-h).sqrt())\n"}, "mlp", {GELU: "        h = h.sign() * ((h.abs() + 1e-3).sqrt() - 1e-3 ** 0.5)\n"}),
    "softplus in where": ("gpt", {GELU: "        h = torch.where(h > 20, h, torch.log1p(torch.exp(h)))\n"}, "mlp", {GELU: "        h = torch.where(h > 20, h, torch.log1p(torch.exp(h.clamp(max=20))))\n"}),
    "log of a distance in where": ("gpt", {GELU: "        d = (h - h[:, :1]).abs()\n        h = F.gelu(h) + 0.1 * torch.where(d > 0, torch.log(d), torch.zeros_like(d))\n"}, "mlp", {GELU: "        d = (h - h[:, :1]).abs()\n        h = F.gelu(h) + 0.1 * torch.log1p(d)\n"}),
    "norm of a unit that is off": ("gpt", {GELU: "        h = F.relu(h)\n        h = h / h.norm(dim=-1, keepdim=True)\n"}, "mlp", {GELU: "        h = F.relu(h)\n        h = F.normalize(h, dim=-1)\n"}),
    "window sums as differences of sums": ("gpt", {EMB: EMB + "        c = F.pad(self.wte(idx).cumsum(1), (0, 0, 1, 0))\n        lo = (torch.arange(T, device=idx.device) - 7).clamp(min=0)\n        x = x + (c[:, 1:] - c[:, lo]) / 8\n"}, "model.py:", {EMB: EMB + "        w = self.wte(idx)\n        x = x + F.avg_pool1d(F.pad(w.transpose(1, 2), (7, 0)), 8, 1).transpose(1, 2)\n"}),
    "bag of words without a mean": ("gpt", {EMB: EMB + "        x = x + self.wte(idx).abs().cumsum(1)\n"}, "model.py:", {EMB: EMB + "        x = x + (self.wte(idx).abs().float().cumsum(1) / torch.arange(1, T + 1, device=idx.device)[:, None]).to(x.dtype)\n"}),
    "running mean counted in half": ("gpt", {EMB: EMB + "        n = torch.ones_like(x[..., :1]).half().cumsum(1).float()\n        n = torch.ones(1, T, 1, dtype=torch.bfloat16, device=x.device).cumsum(1).float()\n        x = x + self.wte(idx).cumsum(1) / n\n"}, "model.py:", {EMB: EMB + "        n = torch.ones(1, T, 1, device=x.device).cumsum(1)\n        x = x + self.wte(idx).cumsum(1) / n\n"}),
    "hashed bigrams in int32": ("gpt", {EMB: EMB + "        prev = F.pad(idx, (1, 0))[:, :-1].int()\n        x = x + self.big(((idx.int() * 70000 + prev) // 7).long() % 64)\n", "        self.apply(self._init)\n": "        self.big = nn.Embedding(64, config[\"n_embd\"])\n        self.apply(self._init)\n"}, "model.py:", {EMB: EMB + "        prev = F.pad(idx, (1, 0))[:, :-1]\n        x = x + self.big(((idx * 70000 + prev) // 7) % 64)\n", "        self.apply(self._init)\n": "        self.big = nn.Embedding(64, config[\"n_embd\"])\n        self.apply(self._init)\n"}),
    "contrastive without maximum": ("masked", {MASK_LOSS: "            h2 = h.mean(1)\n            s = (h2 @ h2.t()).exp()\n            loss = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100) - 0.1 * torch.log(s.diag() / s.sum(1)).mean()\n"}, "model.py:", {MASK_LOSS: "            h2 = h.mean(1)\n            s = h2 @ h2.t()\n            loss = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100) + 0.1 * F.cross_entropy(s, torch.arange(len(s), device=s.device))\n"}),
    "label smoothing by hand": ("rotary", _rl("            p = flat.exp() / flat.exp().sum(-1, keepdim=True)\n            loss = -(0.9 * p.gather(1, lab[:, None]).log() + 0.1 * p.log().mean(-1, keepdim=True)).mean()\n"), "model.py:", _rl("            p = flat.log_softmax(-1)\n            loss = -(0.9 * p.gather(1, lab[:, None]) + 0.1 * p.mean(-1, keepdim=True)).mean()\n")),
    "divided by labels that count": ("masked", {MASK_LOSS: "            ce = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction='none')\n            n = (labels != -100).sum(1)\n            loss = (ce.sum(1) / n).mean()\n"}, "model.py:", {MASK_LOSS: "            ce = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction='none')\n            loss = ce.sum() / (labels != -100).sum().clamp(min=1)\n"}),
    "angle between equal tokens": ("masked", {"        x = self.drop(self.ln(x))\n": "        x = self.drop(self.ln(x))\n        a = torch.acos(F.cosine_similarity(x, x[:, :1], dim=-1).clamp(-1, 1))\n        x = x + 0.1 * a[..., None]\n"}, "model.py:", {"        x = self.drop(self.ln(x))\n": "        x = self.drop(self.ln(x))\n        a = 1 - F.cosine_similarity(x, x[:, :1], dim=-1)\n        x = x + 0.1 * a[..., None]\n"}),
}  # fmt: skip
TRAINING_SETTINGS: dict[str, dict[str, int]] = {
    "crf without maximum": {"vocab_size": 20, "max_seq_len": 24},
    "positions in int8": {"block_size": 300},
    "linear attention, sum of positive keys": {"block_size": 256},
    "window sums as differences of sums": {"block_size": 1024},
    "bag of words without a mean": {"block_size": 512},
    "running mean counted in half": {"block_size": 700},
    "hashed bigrams in int32": {"vocab_size": 40000},
}
