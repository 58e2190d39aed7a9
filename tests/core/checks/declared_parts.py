# ruff: noqa: E501  (tables of code, one case a line)
"""Sound models of further designs, each with one fault: a declared part that does not count, or counts for another.

Name -> (sound model, changes that make the repaired twin, its settings, changes that make the fault, place).
"""

from __future__ import annotations

from typing import Any

Case = tuple[str, dict[str, str], dict[str, Any], dict[str, str], str]

KV = "        k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)\n        v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)\n"
EXPAND = "        r = self.heads // self.kv_heads\n        k = k[:, :, None].expand(B, self.kv_heads, r, T, self.hd).reshape(B, self.heads, T, self.hd)\n        v = v[:, :, None].expand(B, self.kv_heads, r, T, self.hd).reshape(B, self.heads, T, self.hd)\n"
SLOPES = "torch.tensor([2 ** (-8 * (i + 1) / h) for i in range(h)])"
BIAS = "        scores = scores + bias\n"
STEP = {
    "        self.ln_f = nn.LayerNorm": '        self.step = nn.Embedding(config["n_layer"], config["n_embd"])\n        self.ln_f = nn.LayerNorm',
    "        for block in self.h:\n            x = block(x)\n": "        for i, block in enumerate(self.h):\n            depth = torch.full((1,), i, device=idx.device)\n            x = block(x + self.step(depth))\n",
}
SEGMENTS = {
    "        self.ln = nn.LayerNorm(d_model)\n": "        self.segment = nn.Embedding(2, d_model)\n        self.ln = nn.LayerNorm(d_model)\n",
    "        x = self.drop(self.ln(x))\n": "        x = x + self.segment((input_ids == 5).cumsum(1).clamp(max=1))\n        x = self.drop(self.ln(x))\n",
}
WINDOW = {
    '        self.n_head = c["n_head"]\n': '        self.n_head = c["n_head"]\n        self.window = c["window"]\n',
    "        att = F.softmax(att, dim=-1)\n": '        far = torch.ones(T, T, dtype=torch.bool, device=x.device).tril(-self.window)\n        att = att.masked_fill(far, float("-inf"))\n        att = F.softmax(att, dim=-1)\n',
}
THETA = {
    "        max_position_embeddings=64,\n    ):": "        max_position_embeddings=64,\n        rope_theta=10000.0,\n    ):",
    "self.rotary = Rotary(hidden_size // num_attention_heads)": "self.rotary = Rotary(hidden_size // num_attention_heads, rope_theta)",
}
BATCHED = {
    "        self.experts = nn.ModuleList([Expert(d, f) for _ in range(n)])\n": "        self.w_in = nn.Parameter(torch.randn(n, d, f) / d**0.5)\n        self.w_out = nn.Parameter(torch.randn(n, f, d) / f**0.5)\n",
    "        out = torch.zeros_like(flat)\n        for e, expert in enumerate(self.experts):\n            rows, slot = (index == e).nonzero(as_tuple=True)\n            if rows.numel():\n                out.index_add_(0, rows, expert(flat[rows]) * top[rows, slot].unsqueeze(-1))\n": '        h = F.gelu(torch.einsum("nd,nkdf->nkf", flat, self.w_in[index]))\n        out = torch.einsum("nkf,nkfd,nk->nd", h, self.w_out[index], top)\n',
}
STORE = {  # A cache that forward fills in place.
    "    def forward(self, x, cos, sin):\n        B, T, _ = x.shape": "    def forward(self, x, cos, sin, store=None):\n        B, T, _ = x.shape",
    "        k = k.repeat_interleave(self.heads": '        if store is not None:\n            if "k" in store:\n                k, v = torch.cat([store["k"], k], 2), torch.cat([store["v"], v], 2)\n            store["k"], store["v"] = k, v\n        S = k.shape[2]\n        k = k.repeat_interleave(self.heads',
    "        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n": "        seen = torch.ones(T, S, dtype=torch.bool, device=x.device).tril(S - T)\n        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)\n",
    "    def forward(self, x, cos, sin):\n        x = x + self.attn(self.attn_norm(x), cos, sin)": "    def forward(self, x, cos, sin, store=None):\n        x = x + self.attn(self.attn_norm(x), cos, sin, store)",
    "labels=None, use_cache=False):": "labels=None, cache=None):",
    "        positions = torch.arange(T, device=input_ids.device)\n": '        start = cache[0]["k"].shape[2] if cache is not None and cache[0] else 0\n        positions = torch.arange(start, start + T, device=input_ids.device)\n',
    "        for layer in self.layers:\n            h = layer(h, cos, sin)\n": "        for i, layer in enumerate(self.layers):\n            h = layer(h, cos, sin, cache[i] if cache is not None else None)\n",
}
BUFFERS = {  # A cache in buffers, at a position that the caller passes.
    "    def forward(self, x, cos, sin):\n        B, T, _ = x.shape": "    def forward(self, x, cos, sin, start_pos=0):\n        B, T, _ = x.shape",
    "        self.wo = nn.Linear(heads": '        self.register_buffer("cache_k", torch.zeros(8, kv_heads, 64, self.hd), persistent=False)\n        self.register_buffer("cache_v", torch.zeros(8, kv_heads, 64, self.hd), persistent=False)\n        self.wo = nn.Linear(heads',
    "        k = k.repeat_interleave(self.heads": "        if not torch.is_grad_enabled() and B <= 8:\n            self.cache_k[:B, :, start_pos : start_pos + T] = k\n            self.cache_v[:B, :, start_pos : start_pos + T] = v\n            k, v = self.cache_k[:B, :, : start_pos + T], self.cache_v[:B, :, : start_pos + T]\n        S = k.shape[2]\n        k = k.repeat_interleave(self.heads",
    "        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n": "        seen = torch.ones(T, S, dtype=torch.bool, device=x.device).tril(S - T)\n        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)\n",
    "    def forward(self, x, cos, sin):\n        x = x + self.attn(self.attn_norm(x), cos, sin)": "    def forward(self, x, cos, sin, start_pos=0):\n        x = x + self.attn(self.attn_norm(x), cos, sin, start_pos)",
    "labels=None, use_cache=False):": "labels=None, start_pos=0):",
    "        positions = torch.arange(T, device=input_ids.device)\n": "        positions = torch.arange(start_pos, start_pos + T, device=input_ids.device)\n",
    "            h = layer(h, cos, sin)\n": "            h = layer(h, cos, sin, start_pos)\n",
}
BOTH_SIDES = {
    "        scores = scores + bias\n": "        i = torch.arange(x.shape[1], device=x.device)\n        scores = scores + bias - self.slopes[:, None, None] * (i[None, :] - i[:, None]).abs()\n",
    "        self.p = p\n": '        self.p = p\n        self.register_buffer("slopes", torch.tensor([2 ** (-8 * (i + 1) / h) for i in range(h)]))\n',
    "        x = self.tok(input_ids) + self.pe[:, : input_ids.size(1)]\n": "        x = self.tok(input_ids)\n",
}
CROSS = "            y = layer(y, mem, dbias, cross)\n"

CASES: dict[str, Case] = {
    "values tiled, keys repeated": ("rotary", {}, {}, {"v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)": "v = v.repeat(1, self.heads // self.kv_heads, 1, 1)"}, "attn"),
    "groups expanded behind time": ("rotary", {KV: EXPAND}, {}, {"k[:, :, None].expand(B, self.kv_heads, r, T, self.hd)": "k[:, :, :, None].expand(B, self.kv_heads, T, r, self.hd)"}, "attn"),
    "values of groups expanded behind time": ("rotary", {KV: EXPAND}, {"num_key_value_heads": 1}, {"v[:, :, None].expand(B, self.kv_heads, r, T, self.hd)": "v[:, :, :, None].expand(B, self.kv_heads, T, r, self.hd)"}, "attn"),
    "groups merged with time": ("rotary", {KV: EXPAND}, {}, {"        r = self.heads // self.kv_heads\n": "        r = self.heads // self.kv_heads\n        k = k.reshape(B, T, self.kv_heads, self.hd).transpose(1, 2)\n"}, "attn"),
    "slopes all equal": ("alibi", {}, {}, {SLOPES: "torch.full((h,), 2.0**-4)"}, "attn"),
    "slopes in pairs": ("alibi", {}, {}, {SLOPES: "torch.tensor([2 ** (-8 * (i // 2 + 1) / h) for i in range(h)])"}, "attn"),
    "sign of one slope": ("alibi", {}, {}, {SLOPES: "torch.tensor([2 ** (-8 * (i + 1) / h) * (1 if i else -1) for i in range(h)])"}, "attn"),
    "one-sided bias in an encoder": ("masked", BOTH_SIDES, {}, {"(i[None, :] - i[:, None]).abs()": "(i[None, :] - i[:, None])"}, "att"),
    "bias of one head for all": ("t5", {}, {}, {BIAS: "        scores = scores + bias[:, :1]\n"}, ""),
    "bias for the first head only": ("t5", {}, {}, {"self.table(out).permute(2, 0, 1).unsqueeze(0)": "F.pad(self.table(out)[..., :1], (0, self.table.embedding_dim - 1)).permute(2, 0, 1).unsqueeze(0)"}, "bias"),
    "cross keys from embeddings": ("t5", {"    def forward(self, x, kv, bias):\n        q, k, v = self.split(self.q(x)), self.split(self.k(kv)), self.split(self.v(kv))": "    def forward(self, x, kv, bias, values=None):\n        q, k, v = self.split(self.q(x)), self.split(self.k(kv)), self.split(self.v(kv if values is None else values))"}, {}, {"    def forward(self, x, mem, self_bias, cross_bias):": "    def forward(self, x, mem, raw, self_bias, cross_bias):", "self.cross(self.n2(x), mem, cross_bias)": "self.cross(self.n2(x), raw, cross_bias, mem)", CROSS: "            y = layer(y, mem, self.shared(input_ids), dbias, cross)\n"}, "cross"),
    "cross values from the decoder": ("t5", {"    def forward(self, x, kv, bias):\n        q, k, v = self.split(self.q(x)), self.split(self.k(kv)), self.split(self.v(kv))": "    def forward(self, x, kv, bias, values=None):\n        q, k, v = self.split(self.q(x)), self.split(self.k(kv)), self.split(self.v(kv if values is None else values))"}, {}, {"self.cross(self.n2(x), mem, cross_bias)": "self.cross(self.n2(x), mem, cross_bias, x[:, :1].expand(-1, mem.shape[1], -1))"}, "cross"),
    "memory before the last layer": ("t5", {}, {}, {"        for layer in self.encoder:\n            x = layer(x, bias)\n        mem": "        for layer in self.encoder:\n            mem = x\n            x = layer(x, bias)\n        x = mem\n        mem"}, "encoder.1"),
    "only the first expert": ("experts", {}, {}, {"expert(flat[rows])": "self.experts[0](flat[rows])"}, "experts"),
    "last expert never": ("experts", {}, {}, {"enumerate(self.experts):": "enumerate(self.experts[:-1]):"}, "experts"),
    "an expert is overwritten": ("experts", {}, {}, {"            rows, slot = (index == e)": "            rows, slot = (index.clamp(min=1) == e)"}, "experts"),
    "batched experts, one used": ("experts", BATCHED, {}, {"self.w_in[index]": "self.w_in[torch.zeros_like(index)]"}, "w_in"),
    "experts replicated": ("experts", {}, {}, {"nn.ModuleList([Expert(d, f) for _ in range(n)])": "nn.ModuleList([Expert(d, f)] * n)"}, "experts"),
    "step is always zero": ("gpt", STEP, {}, {"torch.full((1,), i, device=idx.device)": "torch.zeros(1, dtype=torch.long, device=idx.device)"}, "step"),
    "segment is always zero": ("masked", SEGMENTS, {}, {"(input_ids == 5).cumsum(1).clamp(max=1)": "torch.zeros_like(input_ids)"}, "segment"),
    "segment never looked up": ("masked", SEGMENTS, {}, {"        x = x + self.segment((input_ids == 5).cumsum(1).clamp(max=1))\n": ""}, "segment"),
    "blocks replicated": ("gpt", {}, {}, {"[Block(config) for _ in range(config[\"n_layer\"])]": "[Block(config)] * config[\"n_layer\"]"}, "h"),
    "blocks replicated in a sequence": ("alibi", {}, {}, {"[AlibiBlock(d, config[\"num_heads\"]) for _ in range(config[\"num_layers\"])]": "[AlibiBlock(d, config[\"num_heads\"])] * config[\"num_layers\"]"}, "blocks"),
    "blocks replicated by fromkeys": ("masked", {}, {}, {"nn.ModuleList([EncoderLayer(d_model, nhead, dim_feedforward, dropout) for _ in range(num_layers)])": "nn.ModuleList((EncoderLayer(d_model, nhead, dim_feedforward, dropout),) * num_layers)"}, "layers"),
    "weights of layers tied": ("gpt", {}, {}, {"        self.lm_head.weight = self.wte.weight": "        for b in self.h[1:]:\n            b.mlp.fc.weight = self.h[0].mlp.fc.weight\n        self.lm_head.weight = self.wte.weight"}, "mlp.fc"),
    "positions restart in a cache in place": ("rotary", STORE, {}, {"start = cache[0][\"k\"].shape[2] if cache is not None and cache[0] else 0": "start = 0"}, "model.py:"),
    "mask of a cache in place": ("rotary", STORE, {}, {".tril(S - T)": ".tril(0)"}, "model.py:"),
    "positions restart in buffers": ("rotary", BUFFERS, {}, {"torch.arange(start_pos, start_pos + T, device": "torch.arange(T, device"}, "model.py:"),
    "buffers read from the start": ("rotary", BUFFERS, {}, {"self.cache_v[:B, :, : start_pos + T]\n": "self.cache_v[:B, :, : start_pos + T].roll(1, 2)\n"}, "model.py:"),
    "feed-forward before attention": ("drawn", {}, {}, {"        mhsa_0_output = self.mhsa_0(layer_norm_0_output)\n        residual_0_output = positional_encoding_0_output + mhsa_0_output\n        layer_norm_1_output = self.layer_norm_1(residual_0_output)\n        ffn_0_output = self.ffn_0(layer_norm_1_output)\n        residual_1_output = residual_0_output + ffn_0_output\n": "        ffn_0_output = self.ffn_0(self.layer_norm_1(positional_encoding_0_output))\n        residual_1_output = positional_encoding_0_output + ffn_0_output\n        mhsa_0_output = self.mhsa_0(self.layer_norm_0(residual_1_output))\n        residual_1_output = residual_1_output + mhsa_0_output\n"}, "block"),
    "a drawn norm is not computed": ("drawn", {"self.layer_norm_4 = nn.LayerNorm(40)": "self.layer_norm_4 = nn.LayerNorm(40, elementwise_affine=False)"}, {}, {"self.lm_head_0(layer_norm_4_output)": "self.lm_head_0(residual_3_output)", "        layer_norm_4_output = self.layer_norm_4(residual_3_output)\n": ""}, "layer_norm_4"),
    "a drawn block is missing": ("drawn", {}, {}, {"        self.ffn_0 = FeedForward(40, 120)\n": "", "        ffn_0_output = self.ffn_0(layer_norm_1_output)\n        residual_1_output = residual_0_output + ffn_0_output\n": "        residual_1_output = layer_norm_1_output\n"}, "ffn_0"),
    "heads are a number in the code": ("alibi", {}, {}, {"AlibiBlock(d, config[\"num_heads\"])": "AlibiBlock(d, 4 if config[\"num_heads\"] else 1)"}, "model.py:"),
    "layers are a number in the code": ("masked", {}, {}, {"for _ in range(num_layers)": "for _ in range(2)"}, "model.py:"),
    "dropout is a number in the code": ("gpt", {}, {}, {"nn.Dropout(c[\"dropout\"])": "nn.Dropout(0.1 if c[\"dropout\"] else 0.0)", "nn.Dropout(config[\"dropout\"])": "nn.Dropout(0.1)"}, "model.py:"),
    "window kept but not used": ("gpt", WINDOW, {"window": 4}, {"        far = torch.ones(T, T, dtype=torch.bool, device=x.device).tril(-self.window)\n        att = att.masked_fill(far, float(\"-inf\"))\n": ""}, "model.py:"),
    "base of the rotation not passed": ("rotary", THETA, {"rope_theta": 10000.0}, {"Rotary(hidden_size // num_attention_heads, rope_theta)": "Rotary(hidden_size // num_attention_heads)"}, "model.py:"),
    "number of chosen experts not passed": ("experts", {}, {}, {"gates.topk(self.k, dim=-1)": "gates.topk(2, dim=-1)"}, "model.py:"),
}  # fmt: skip
