# ruff: noqa: E501  (tables of code, one case a line)
"""Faults of many kinds in models of many styles: each is found, named first, and located."""

from __future__ import annotations

import pytest

from tests.core.checks.zoo import write_model
from transformer_foundry.core.checks import run_checks

# fault: (sound model, changes of its code, changes of its configuration, check that has to come first, place)
FAULTS = {
    "gpt: sees next": ("gpt", {"torch.tril(torch.ones(c[\"block_size\"], c[\"block_size\"]))": "torch.tril(torch.ones(c[\"block_size\"], c[\"block_size\"]), 1)"}, {}, "causality", "h.0.attn"),
    "gpt: cannot see itself": ("gpt", {"torch.tril(torch.ones(c[\"block_size\"], c[\"block_size\"]))": "torch.tril(torch.ones(c[\"block_size\"], c[\"block_size\"]), -1)"}, {}, "finite", "h.0.attn"),
    "gpt: mask after softmax": ("gpt", {"        att = att.masked_fill(self.tri[:, :, :T, :T] == 0, float(\"-inf\"))\n        att = F.softmax(att, dim=-1)": "        att = F.softmax(att, dim=-1)\n        att = att.masked_fill(self.tri[:, :, :T, :T] == 0, 0.0)"}, {}, "attention", "h.0.attn"),
    "gpt: mask inverted": ("gpt", {"[:, :, :T, :T] == 0": "[:, :, :T, :T] == 1"}, {}, "finite", "h.0.attn"),
    "alibi: alibi sign": ("alibi", {"+ self.slopes[:, None, None] * dist": "- self.slopes[:, None, None] * dist"}, {}, "positions", "blocks.0.attn"),
    "torch_layers: additive mask of +1": ("torch_layers", {"torch.full((T, T), float(\"-inf\")": "torch.full((T, T), 1.0"}, {}, "causality", "encoder.layers.0.self_attn"),
    "mixers: conv padded both sides": ("mixers", {"(self.k - 1, 0)": "(self.k // 2, self.k // 2)"}, {}, "causality", "mixers.0.conv"),
    "mixers: bidirectional rnn": ("mixers", {"self.rnn = nn.GRU(d, d, batch_first=True)": "self.rnn = nn.GRU(d, d // 2, batch_first=True, bidirectional=True)"}, {}, "causality", "mixers.1.rnn"),
    "rotary: norm over time": ("rotary", {"x.float().pow(2).mean(-1, keepdim=True)": "x.float().pow(2).mean(1, keepdim=True)"}, {}, "causality", "layers.0.attn_norm"),
    "rotary: sequence reversed": ("rotary", {"logits = self.lm_head(h)": "logits = self.lm_head(h.flip(1))"}, {}, "causality", "model.py:"),
    "rotary: shift inputs left": ("rotary", {"h = self.embed(input_ids)": "h = self.embed(torch.roll(input_ids, -1, 1))"}, {}, "causality", "embed"),
    "gpt: train-mode only leak": ("gpt", {"[:, :, :T, :T] == 0": "[:, :, :T, :T] == (2 if self.training else 0)"}, {}, "causality", "h.0.attn"),
    "gpt: softmax over queries": ("gpt", {"F.softmax(att, dim=-1)": "F.softmax(att, dim=-2)"}, {}, "attention", "h.0.attn"),
    "gpt: softmax over heads": ("gpt", {"F.softmax(att, dim=-1)": "F.softmax(att, dim=1)"}, {}, "finite", "h.0.attn"),
    "alibi: softmax over heads": ("alibi", {"p = s.softmax(dim=-1)": "p = s.softmax(dim=1)"}, {}, "attention", "blocks.0.attn"),
    "gpt: softmax missing": ("gpt", {"        att = F.softmax(att, dim=-1)\n": "", "float(\"-inf\")": "0.0"}, {}, "attention", "h.0.attn"),
    "masked: sigmoid instead of softmax": ("masked", {"probs = nn.functional.softmax(scores, dim=-1)": "probs = torch.sigmoid(scores)"}, {}, "attention", "layers.0.att"),
    "gpt: scale multiplied": ("gpt", {"(1.0 / math.sqrt(k.size(-1)))": "math.sqrt(k.size(-1))"}, {}, "attention scale", "h.0.attn"),
    "gpt: scale by d^2": ("gpt", {"1.0 / math.sqrt(k.size(-1))": "1.0 / k.size(-1) ** 2"}, {}, "attention scale", "h.0.attn"),
    "rotary: scale times 20": ("rotary", {"is_causal=True": "is_causal=True, scale=20.0"}, {}, "attention scale", "layers.0.attn"),
    "gpt: split without transpose": ("gpt", {".view(B, T, self.n_head, C // self.n_head).transpose(1, 2)": ".view(B, self.n_head, T, C // self.n_head)", "y.transpose(1, 2).contiguous().view(B, T, C)": "y.contiguous().view(B, T, C)"}, {}, "heads", "h.0.attn"),
    "gpt: split right merge wrong": ("gpt", {"y.transpose(1, 2).contiguous().view(B, T, C)": "y.contiguous().view(B, T, C)"}, {}, "heads", "h.0.attn"),
    "masked: attention weights transposed": ("masked", {"torch.matmul(probs, v)": "torch.matmul(probs.transpose(-1, -2), v)"}, {}, "attention", "layers.0.att"),
    "experts: residual dropped": ("experts", {"x = x + a": "x = a"}, {}, "residual", "blocks.0.attn"),
    "mixers: residual dropped": ("mixers", {"x = x + mixer(norm(x))": "x = mixer(norm(x))"}, {}, "residual", "mixers.0.conv"),
    "gpt: residual twice": ("gpt", {"x = x + self.attn(self.ln_1(x))": "x = x + x + self.attn(self.ln_1(x))"}, {}, "residual", "h.0"),
    "gpt: ffn unused": ("gpt", {"x = x + self.mlp(self.ln_2(x))": "x = x + 0 * self.mlp(self.ln_2(x))"}, {}, "gradients", "h.0.mlp"),
    "gpt: loop always on original x": ("gpt", {"        for block in self.h:\n            x = block(x)\n": "        e = x\n        for block in self.h:\n            x = block(e)\n"}, {}, "gradients", "h.1"),
    "masked: dropout no flag": ("masked", {"p=self.p, training=self.training": "p=self.p"}, {}, "determinism", "layers.0.att"),
    "gpt: positions reversed": ("gpt", {"torch.arange(0, T, dtype=torch.long, device=idx.device)": "torch.arange(T - 1, -1, -1, dtype=torch.long, device=idx.device)"}, {}, "length dependence", "model.py:"),
    "rotary: rope on v too": ("rotary", {"        k = k.repeat": "        v = v * cos + rotate_half(v) * sin\n        k = k.repeat"}, {}, "positions", "layers.1.attn"),
    "rotary: rope q only": ("rotary", {"        k = k * cos + rotate_half(k) * sin\n": ""}, {}, "positions", "layers.0.attn"),
    "rotary: rope half sign lost": ("rotary", {"torch.cat((-b, a), dim=-1)": "torch.cat((b, a), dim=-1)"}, {}, "positions", "layers.0.attn"),
    "t5: decoder bias of the future": ("t5", {"rel = (-rel).clamp(min=0)": "rel = rel.clamp(min=0)"}, {}, "positions", "decoder.0.att"),
    "classifier: pad mask inverted": ("classifier", {"attention_mask == 0": "attention_mask == 1"}, {}, "padding", "model.py:"),
    "classifier of one number: pad mask inverted": ("classifier", {"attention_mask == 0": "attention_mask == 1"}, {"num_labels": 1}, "padding", "model.py:"),
    "classifier of one number: ids wrapped": ("classifier", {"self.word_embeddings(input_ids)": "self.word_embeddings(input_ids % 40)"}, {"num_labels": 1}, "token ids", "word_embeddings"),
    "masked: pad mask on queries": ("masked", {"attention_mask[:, None, None, :]": "attention_mask[:, None, :, None]"}, {}, "padding", "layers.0.att"),
    "classifier: pooled from last (padding)": ("classifier", {"x[:, 0]": "x[:, -1]"}, {}, "padding", "model.py:"),
    "time_first: cross padding in seq missing": ("time_first", {", memory_key_padding_mask=pad": ""}, {}, "padding", "transformer.decoder.layers.0.multihead_attn"),
    "classifier: nan on all pad": ("classifier", {"attention_mask == 0": "attention_mask > -1"}, {}, "padding", "model.py:"),
    "mixers: gru not batch first": ("mixers", {"nn.GRU(d, d, batch_first=True)": "nn.GRU(d, d)"}, {}, "batch independence", "mixers.1.rnn"),
    "rotary: view mixes batch": ("rotary", {"y = y.transpose(1, 2).reshape(B, T, -1)": "y = y.permute(2, 0, 1, 3).reshape(B, T, -1)"}, {}, "batch independence", "layers.0.attn"),
    "t5: cross keys from decoder": ("t5", {"self.cross(self.n2(x), mem, cross_bias)": "self.cross(self.n2(x), self.n2(x), self_bias)"}, {}, "source", "decoder.0.cross"),
    "t5: decoder not shifted labels": ("t5", {"decoder_input_ids[:, 1:] = labels[:, :-1]": "decoder_input_ids[:, :] = labels"}, {}, "labels", "model.py:"),
    "time_first: encoder causal": ("time_first", {"tgt_mask=causal,": "tgt_mask=causal, src_mask=self.transformer.generate_square_subsequent_mask(src.size(1), device=src.device),"}, {}, "source", "transformer.encoder.layers.0.self_attn"),
    "time_first: seq no tgt mask": ("time_first", {"tgt_mask=causal, ": ""}, {}, "causality", "transformer.decoder.layers.0.self_attn"),
    "classifier: causal classifier": ("classifier", {"a, _ = self.attention(x, x, x, key_padding_mask=pad, need_weights=False)": "m = torch.ones(x.size(1), x.size(1), device=x.device, dtype=torch.bool).triu(1)\n        a, _ = self.attention(x, x, x, attn_mask=m, key_padding_mask=pad, need_weights=False)"}, {}, "neighbors", "layer.0.attention"),
    "rotary: shift wrong way": ("rotary", {"labels[:, 1:].contiguous()": "labels[:, :-1].contiguous()", "logits[:, :-1].contiguous()": "logits[:, 1:].contiguous()"}, {}, "labels", "model.py:"),
    "masked: CE over wrong axis": ("masked", {"F.cross_entropy(logits.transpose(1, 2), labels": "F.cross_entropy(logits.reshape(-1, input_ids.size(1), logits.size(-1)).permute(0, 2, 1).contiguous().view(-1, logits.size(-1)), labels.view(-1)"}, {}, "loss", "model.py:"),
    "rotary: negative loss": ("rotary", {"loss = F.cross_entropy(": "loss = -F.cross_entropy("}, {}, "loss", "model.py:"),
    "rotary: temperature tiny": ("rotary", {"logits = self.lm_head(h)": "logits = self.lm_head(h) * 1e-6"}, {}, "squashed logits", "model.py:"),
    "rotary: ids modulo": ("rotary", {"self.embed(input_ids)": "self.embed(input_ids % 64)"}, {}, "token ids", "embed"),
    "masked: special tokens beyond vocab": ("masked", {}, {"mask_token_id": 140}, "configuration", "tok"),
    "rotary: zero param in forward": ("rotary", {"logits = self.lm_head(h)": "w = nn.Parameter(torch.ones(h.shape[-1], device=h.device)); logits = self.lm_head(h * w)"}, {}, "unregistered parameters", "model.py:"),
    "rotary: no_grad block": ("rotary", {"        for layer in self.layers:\n            h = layer(h, cos, sin)\n": "        with torch.no_grad():\n            for layer in self.layers:\n                h = layer(h, cos, sin)\n"}, {}, "gradients", "model.py:123"),
    "experts: argmax gate": ("experts", {"out.index_add_(0, rows, expert(flat[rows]) * top[rows, slot].unsqueeze(-1))": "out.index_add_(0, rows, expert(flat[rows]))"}, {}, "experts", "blocks.0.moe"),
    "rotary: heads equal": ("rotary", {"        for p in self.parameters():\n            if p.dim() > 1:\n                nn.init.normal_(p, std=0.02)\n": "        for p in self.parameters():\n            if p.dim() > 1:\n                nn.init.normal_(p, std=0.02)\n        for l in self.layers:\n            for w in (l.attn.wq, l.attn.wk, l.attn.wv):\n                w.weight.data.copy_(w.weight.data[:12].repeat(w.weight.shape[0] // 12, 1))\n"}, {}, "initialization", "layers.0.attn"),
    "rotary: norm gain zero": ("rotary", {"nn.Parameter(torch.ones(dim))": "nn.Parameter(torch.zeros(dim))"}, {}, "gradient flow", "model.py:"),
    "gpt: norm eps 1": ("gpt", {"self.ln_f = nn.LayerNorm(config[\"n_embd\"])": "self.ln_f = nn.LayerNorm(config[\"n_embd\"], eps=1.0)"}, {}, "initialization", "ln_f"),
    "mixers: running state buffer": ("mixers", {"y, _ = self.rnn(x)": "y, self.hid = self.rnn(x, self.hid if hasattr(self, 'hid') and self.hid.shape[1] == x.shape[0] else None); self.hid = self.hid.detach()"}, {}, "memory", "mixers.1.hid"),
    "rotary: ff ignored": ("rotary", {"Layer(hidden_size, num_attention_heads, num_key_value_heads, intermediate_size)": "Layer(hidden_size, num_attention_heads, num_key_value_heads, 80)"}, {}, "configuration", "layers.0.ffn.w1"),
    "drawn: not causal block 1": ("drawn", {"self.mhsa_1 = MultiHeadSelfAttention(40, 4, 0.1, causal=True)": "self.mhsa_1 = MultiHeadSelfAttention(40, 4, 0.1)"}, {}, "causality", "block mhsa_1"),
    "drawn: residual 1 missing": ("drawn", {"residual_1_output = residual_0_output + ffn_0_output": "residual_1_output = ffn_0_output"}, {}, "residual", "block ffn_0"),
    "drawn: mhsa_1 skipped": ("drawn", {"residual_2_output = residual_1_output + mhsa_1_output": "residual_2_output = residual_1_output + ffn_0_output"}, {}, "gradients", "block mhsa_1"),
    "drawn: heads": ("drawn", {"self.mhsa_1 = MultiHeadSelfAttention(40, 4,": "self.mhsa_1 = MultiHeadSelfAttention(40, 8,"}, {}, "configuration", "block mhsa_1"),
    "drawn: drawn ff": ("drawn", {"self.ffn_1 = FeedForward(40, 120)": "self.ffn_1 = FeedForward(40, 60)"}, {}, "configuration", "block ffn_1"),
    "drawn: shape": ("drawn", {"self.ffn_0 = FeedForward(40, 120)": "self.ffn_0 = FeedForward(32, 120)"}, {}, "runs", "block ffn_0"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_mutated_model_is_reported_with_the_cause_first_and_its_place(name, tmp_path):
    model, changes, settings, check, where = FAULTS[name]
    problems = run_checks(write_model(tmp_path / "export", model, changes, **settings)).problems
    assert problems, "nothing was found"
    assert check == problems[0].check, [(finding.check, finding.message) for finding in problems]
    assert where in problems[0].where, problems[0].where
    assert all(finding.message and finding.fix for finding in problems)
