# ruff: noqa: E501  (tables of code, one case a line)
"""Correct models of many designs: no check reports a problem."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.core.checks.models import SOUND, write_export
from transformer_foundry.core.checks import check_model, run_checks

LEGITIMATE = {
    "shared layers": ("gpt", {"[Block(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)]": (
        "[Block(d_model, num_heads, d_ff, dropout)] * num_layers")}, {"share_layers": True}),
    "layer drop": ("gpt", {"            x = block(x)": (
        "            x = block(x) if not self.training or torch.rand(()) > 0.2 else x")}),
    "sliding window": ("gpt", {"float(\"-inf\"))": "float(\"-inf\")).masked_fill(future.T.tril(-4), float(\"-inf\"))"}),
    "no positions": ("gpt", {" + self.places(where)": "", "        self.places = nn.Embedding(max_seq_len, d_model)\n": ""}),
    "zero output projection": ("gpt", {"self.head.weight =": "[nn.init.zeros_(b.attention.out.weight) for b in self.blocks]\n        self.head.weight ="}),
    "unused mask": ("gpt", {"labels=None": "attention_mask=None, labels=None"}),
    "longer position table": ("gpt", {"nn.Embedding(max_seq_len": "nn.Embedding(max_seq_len + 50"}),
    "fused attention": ("gpt", {"weights = self.drop(F.softmax(scores, dim=-1))": "weights = torch.softmax(scores, -1)"}),
    "inverted mask by name": ("encoder", {"attention_mask=None": "key_padding_mask=None", "if attention_mask is None:\n            attention_mask = torch.ones_like(input_ids)": "attention_mask = torch.ones_like(input_ids) if key_padding_mask is None else ~key_padding_mask.bool()"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_raises_no_alarm(name, tmp_path):
    report = run_checks(write_export(tmp_path / "export", name))
    assert [(finding.check, finding.message) for finding in report.problems] == []
    assert report.status == "pass"


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_raises_no_alarm_in_the_thorough_checks(name, tmp_path):
    report = run_checks(write_export(tmp_path / "export", name), tier=2)
    assert [(finding.check, finding.message) for finding in report.problems] == []


@pytest.mark.slow
@pytest.mark.parametrize("design", LEGITIMATE)
def test_a_legitimate_design_raises_no_alarm(design, tmp_path):
    name, changes, *settings = LEGITIMATE[design]
    report = run_checks(write_export(tmp_path / "export", name, changes, **(settings[0] if settings else {})))
    assert [(finding.check, finding.message) for finding in report.problems] == []


def test_checking_a_module_leaves_it_as_it_was(tmp_path):
    from transformer_foundry.core.models import build_model, read_export

    export = read_export(write_export(tmp_path / "export", "gpt"))
    model = build_model(export, seed=3).train()
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    report = check_model(model, export.config)
    assert report.status == "pass"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_module_that_is_not_a_transformer_is_a_finding():
    report = check_model(nn.Linear(3, 3), {"vocab_size": 10})
    assert report.status == "fail"
    assert report.problems[0].check == "runs"
