# ruff: noqa: E501  (tables of code, one case a line)
"""Sound models with one line broken: the check named finds the fault and names its place."""

from __future__ import annotations

import pytest

from tests.core.checks.models import write_export
from transformer_foundry.core.checks import run_checks

NORMED = "        x = self.norm(x)\n"
# fault: (sound model, changes, check that has to find it, line or module that has to be named)
FAULTS = {
    "mask missing": ("gpt", {"scores.masked_fill(future, float(\"-inf\"))": "scores"}, "causality", "blocks.0.attention"),
    "mask off by one": ("gpt", {"triu(1)": "triu(2)"}, "causality", "blocks.0.attention"),
    "dropout always on": ("gpt", {"x = self.drop(self.tokens": "x = F.dropout(self.tokens"}, "determinism", "model.py:"),
    "detached": ("gpt", {"x = self.norm(x)": "x = self.norm(x.detach())"}, "gradients", "model.py:"),
    "plain list": ("gpt", {"nn.ModuleList([Block(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)])": (
        "[Block(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)]")}, "unregistered parameters", "blocks"),
    "softmax at the end": ("gpt", {"logits = self.head(x)": "logits = self.head(x).softmax(-1)"}, "probabilities", "model.py:"),
    "labels not shifted": ("gpt", {"logits[:, :-1]": "logits", "labels[:, 1:]": "labels"}, "labels", "model.py:"),
    "layers ignored": ("gpt", {"range(num_layers)": "range(1)"}, "configuration", "blocks"),
    "mhsa 1 not causal": ("graph", {"layernorm_1_output, attn_mask=causal)": "layernorm_1_output)"}, "causality", "block mhsa_1"),
    "ffn unused": ("graph", {"layernorm_0_output + ffn_0_output": "layernorm_0_output + layernorm_0_output"}, "gradients", "block ffn_0"),
    "intermediate wanted": ("graph", {"(self, input_0_tokens)": "(self, input_0_tokens, mhsa_0_output)"}, "signature", "block mhsa_0"),
    "name undefined": ("graph", {"return self.output_0(layernorm_2_output)": "return output_0_logits"}, "undefined name", "block output_0"),
    "rotary on queries only": ("rotary", {"q, k = turn(q, cos, sin), turn(k, cos, sin)": "q = turn(q, cos, sin)"}, "positions", "layers.0"),
    "padding ignored": ("encoder", {"src_key_padding_mask=attention_mask == 0": "src_key_padding_mask=None"}, "padding", "layers"),
    "pooling counts padding": ("classifier", {"(x * keep).sum(1) / keep.sum(1).clamp(min=1)": "x.mean(1)"}, "padding", "model.py:"),
    "batch second": ("classifier", {"batch_first=True": "batch_first=False", "src_key_padding_mask=attention_mask == 0": "mask=None"}, "batch independence", "layers"),
    "decoder sees all": ("translator", {"tgt_mask=future": "tgt_mask=None"}, "causality", "body.decoder"),
    "source is target": ("translator", {"self.look_up(input_ids), self.look_up(decoder": "self.look_up(decoder_input_ids), self.look_up(decoder"}, "source", "model.py:"),
}  # fmt: skip
MORE_FAULTS = {
    "mask weak": ("gpt", {"float(\"-inf\")": "-4.0"}, "causality", "blocks.0.attention"),
    "mean over time": ("gpt", {NORMED: "        x = self.norm(x + x.mean(1, keepdim=True))\n"}, "causality", "model.py:"),
    "positions from the end": ("gpt", {"where = torch.arange(T, device=input_ids.device)": "where = torch.arange(T, device=input_ids.device).flip(0)"}, "length dependence", "model.py:"),
    "positions all zero": ("gpt", {"self.places(where)": "self.places(where * 0)"}, "dead rows", "places"),
    "positions wrap": ("gpt", {"self.places(where)": "self.places(where % 16)"}, "dead rows", "model.py:"),
    "positions unused": ("encoder", {" + self.position[:, : input_ids.shape[1]]": ""}, "positions", "model.py:"),
    "heads split without transpose": ("gpt", {"view(B, T, self.heads, -1).transpose(1, 2)": "reshape(B, self.heads, T, -1)", ".transpose(1, 2).reshape(B, T, C)": ".reshape(B, T, C)"}, "heads", "blocks.0.attention"),
    "softmax over queries": ("encoder", {"self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)": "self.layers = None", "x = self.layers(x, src_key_padding_mask=attention_mask == 0)": "x = x + (x @ x.transpose(1, 2) * 0.2).masked_fill(attention_mask[:, None] == 0, -1e9).softmax(1) @ x"}, "attention", "model.py:"),
    "scores not scaled": ("gpt", {" / math.sqrt(C // self.heads)": ""}, "attention scale", "blocks.0.attention"),
    "residual missing": ("gpt", {"x = x + self.attention": "x = self.attention"}, "residual", "blocks.0.attention"),
    "activation missing": ("gpt", {"nn.GELU(), ": ""}, "activation", "feed"),
    "fixed length": ("gpt", {"T = input_ids.shape[1]": "T = 16"}, "runs", "model.py:"),
    "table too short": ("gpt", {"nn.Embedding(max_seq_len": "nn.Embedding(max_seq_len // 2"}, "sizes", "model.py:"),
    "truncated": ("gpt", {"T = input_ids.shape[1]": "input_ids = input_ids[:, :20]; T = input_ids.shape[1]"}, "sizes", "model.py:"),
    "one id too few": ("gpt", {"nn.Embedding(vocab_size": "nn.Embedding(vocab_size - 1", "        self.head.weight = self.tokens.weight\n": ""}, "sizes", "model.py:"),
    "cuda": ("gpt", {"x = self.norm(x)": "x = self.norm(x.cuda())"}, "runs", "model.py:"),
    "made on the cpu": ("gpt", {"torch.arange(T, device=input_ids.device)": "torch.arange(T)"}, "devices", "model.py:"),
    "plain tensor": ("rotary", {"self.register_buffer(\"cos\", angles.cos(), persistent=False)": "self.cos = angles.cos()"}, "devices", "cos"),
    "seed in forward": ("gpt", {NORMED: "        torch.manual_seed(1)\n        x = self.norm(x)\n"}, "global seed", "model.py:"),
    "ids overwritten": ("gpt", {"T = input_ids.shape[1]": "T = input_ids.shape[1]; input_ids[:, 0] = 1"}, "inputs changed", "forward"),
    "memory": ("gpt", {NORMED: "        self.__dict__.setdefault('kept', []).append(x.detach()); x = self.norm(x)\n"}, "memory", "kept"),
    "running mean": ("gpt", {"self.norm = nn.LayerNorm(d_model)": "self.norm = nn.LayerNorm(d_model); self.register_buffer('mean', torch.zeros(d_model))", NORMED: "        self.mean.lerp_(x.detach().mean((0, 1)), 0.1); x = self.norm(x + self.mean)\n"}, "memory", "mean"),
    "batch norm": ("gpt", {NORMED: "        x = F.batch_norm(x.transpose(1, 2), None, None, training=True).transpose(1, 2)\n"}, "batch independence", "model.py:"),
    "train mode inside": ("gpt", {"T = input_ids.shape[1]": "T = input_ids.shape[1]; self.eval()"}, "mode", "model.py:"),
    "in place": ("gpt", {"return x + self.feed(self.norm2(x))": "h = torch.sigmoid(self.feed(self.norm2(x))); h += 1; return x + h * torch.exp(h)"}, "any", ""),
    "not differentiable": ("gpt", {"logits = self.head(x)": "logits = torch.tensor(self.head(x).tolist())"}, "differentiable", "model.py:"),
    "frozen": ("gpt", {"self.apply(self.start)": "self.apply(self.start); self.blocks.requires_grad_(False)"}, "frozen parameters", "model.py:"),
    "last layer skipped": ("gpt", {"in self.blocks:": "in self.blocks[:-1]:"}, "gradients", "blocks.1"),
    "start too large": ("gpt", {"std=0.02": "std=1.0"}, "loss at initialization", "model.py:"),
    "start constant": ("gpt", {"nn.init.normal_(module.weight, std=0.02)": "nn.init.constant_(module.weight, 0.02)"}, "initialization", "model.py:"),
    "tie copied": ("gpt", {"self.head.weight = self.tokens.weight": "self.head.weight.data.copy_(self.tokens.weight)"}, "tied weights", "head"),
    "ignored labels counted": ("gpt", {"labels[:, 1:].flatten(), ignore_index=-100": "labels[:, 1:].flatten().clamp(min=0)"}, "labels", "model.py:"),
    "random and unsaved": ("gpt", {"self.norm = nn.LayerNorm(d_model)": "self.norm = nn.LayerNorm(d_model); self.register_buffer('mix', torch.randn(d_model), persistent=False)", NORMED: "        x = self.norm(x) * self.mix\n"}, "state", "mix"),
    "rotary signs differ": ("rotary", {"turn(k, cos, sin)": "turn(k, cos, -sin)"}, "positions", "layers.0"),
    "cross attention causal": ("translator", {"tgt_mask=future,": "tgt_mask=future, memory_mask=torch.ones(T, input_ids.shape[1], dtype=torch.bool, device=input_ids.device).triu(1),"}, "source", "model.py:"),
    "source padding seen": ("translator", {"memory_key_padding_mask=pad": "memory_key_padding_mask=None"}, "padding", "body.decoder"),
    "heads of a block": ("graph", {"self.mhsa_1 = nn.MultiheadAttention(embed_dim=32, num_heads=4": "self.mhsa_1 = nn.MultiheadAttention(embed_dim=32, num_heads=2"}, "configuration", "block mhsa_1"),
    "residual of a block": ("graph", {"residual_2_output = layernorm_1_output + mhsa_1_output": "residual_2_output = mhsa_1_output"}, "residual", "block mhsa_1"),
    "layout of a block": ("graph", {"self.mhsa_0 = nn.MultiheadAttention(embed_dim=32, num_heads=4, batch_first=True)": "self.mhsa_0 = nn.MultiheadAttention(embed_dim=32, num_heads=4)", "embedding_0_x, attn_mask=causal)": "embedding_0_x)"}, "batch independence", "block mhsa_0"),
    "width of a block": ("graph", {"self.layernorm_2 = nn.LayerNorm(32)": "self.layernorm_2 = nn.LayerNorm(16)"}, "runs", "block layernorm_2"),
}  # fmt: skip


def assert_found(fault, folder):
    name, changes, check, where = fault
    report = run_checks(write_export(folder, name, changes))
    problems = report.problems
    assert problems, [finding.message for finding in report.findings]
    if check != "any":
        assert check == problems[0].check, [(finding.check, finding.message) for finding in problems]
        assert where in problems[0].where, problems[0].where
    assert all(finding.message and finding.fix for finding in problems)
    assert not any(": block " in finding.fix for finding in problems)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_reported_first_with_its_place(name, tmp_path):
    assert_found(FAULTS[name], tmp_path / "export")


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_FAULTS)
def test_another_fault_is_found_and_reported_first_with_its_place(name, tmp_path):
    assert_found(MORE_FAULTS[name], tmp_path / "export")
