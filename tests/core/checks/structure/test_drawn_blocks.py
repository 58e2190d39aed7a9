# ruff: noqa: E501  (tables of code, one case a line)
"""On mutated copies of a drawn model the block that is named is the one that was mutated."""

from __future__ import annotations

import pytest

from tests.core.checks.models import write_export
from transformer_foundry.core.checks import run_checks

_ATTEND_0 = "embedding_0_x, embedding_0_x, embedding_0_x, attn_mask=causal)"
_ATTEND_1 = "layernorm_1_output, layernorm_1_output, layernorm_1_output, attn_mask=causal)"
MUTATIONS = [
    ("mhsa_0", {_ATTEND_0: _ATTEND_0.replace(", attn_mask=causal", "")}),
    ("mhsa_1", {_ATTEND_1: _ATTEND_1.replace(", attn_mask=causal", "")}),
    ("mhsa_0", {_ATTEND_0: _ATTEND_0.replace("=causal", "=causal.roll(1, 1)")}),
    ("mhsa_1", {_ATTEND_1: _ATTEND_1.replace("=causal", "=causal.float() * -2")}),
    ("ffn_0", {"layernorm_0_output + ffn_0_output": "layernorm_0_output * 2"}),
    ("mhsa_1", {"layernorm_1_output + mhsa_1_output": "layernorm_1_output * 2"}),
    ("ffn_0", {"self.ffn_0(layernorm_0_output)": "self.ffn_0(layernorm_0_output).detach()"}),
    ("mhsa_1", {"layernorm_1_output + mhsa_1_output": "mhsa_1_output"}),
    ("ffn_0", {"layernorm_0_output + ffn_0_output": "ffn_0_output"}),
    ("ffn_0", {"nn.GELU(), ": ""}),
    ("ffn_0", {"nn.Linear(64, 32)": "nn.Linear(64, 48)"}),
    ("layernorm_1", {"self.layernorm_1 = nn.LayerNorm(32)": "self.layernorm_1 = nn.LayerNorm(24)"}),
    ("mhsa_0", {"self.mhsa_0 = nn.MultiheadAttention(embed_dim=32, num_heads=4": "self.mhsa_0 = nn.MultiheadAttention(embed_dim=32, num_heads=8"}),
    ("embedding_0", {"nn.Embedding(40, 32)": "nn.Embedding(20, 32)"}),
    ("embedding_0", {"nn.Embedding(90, 32)": "nn.Embedding(89, 32)"}),
    ("embedding_0", {"self.embedding_0_pos(positions)": "self.embedding_0_pos(positions % 8)"}),
    ("embedding_0", {"self.embedding_0_pos(positions)": "self.embedding_0_pos(positions * 0)"}),
    ("layernorm_0", {"self.layernorm_0(residual_0_output)": "self.layernorm_0(residual_5_output)"}),
    ("output_0", {"return self.output_0(layernorm_2_output)": "return self.output_0(layernorm_2_output).softmax(-1)"}),
    ("layernorm_2", {"self.layernorm_2(residual_2_output)": "torch.dropout(self.layernorm_2(residual_2_output), 0.3, True)"}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(MUTATIONS)))
def test_the_named_block_is_the_mutated_one(number, tmp_path):
    block, changes = MUTATIONS[number]
    problems = run_checks(write_export(tmp_path / "export", "graph", changes)).problems
    assert problems
    assert f"block {block}" in problems[0].where, (problems[0].where, problems[0].message)
