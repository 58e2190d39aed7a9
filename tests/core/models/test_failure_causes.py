"""Models that cannot be trained: the cause and the line are named, and the remedy works when it is followed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.core.models.samples import CAUSAL, GRAPH_CONFIG, PLAIN, a_forward
from transformer_foundry.core.base.errors import ModelError

HIDDEN = a_forward("input_ids", "return self.states(input_ids, look_back(input_ids))")
LOSS = "F.cross_entropy(logits.flatten(0, 1), labels.flatten())"
BOTH = f"logits = self.logits(input_ids, look_back(input_ids))\nloss = {LOSS}\nreturn "
NUMBERS = """
from torch import nn

class Series(nn.Module):
    def __init__(self, d_model=16):
        super().__init__()
        self.inp = nn.Linear(3, d_model)
        self.out = nn.Linear(d_model, 40)

    def forward(self, x):
        h = self.inp(x)
        return self.out(h)
"""
DIVIDED = CAUSAL.replace("import torch\n", "import torch\nfrom myblocks import scale\n", 1)

# Name -> (source, the problem, the remedy, the source with the remedy followed).
CASES: dict[str, tuple[str, str, str, str]] = {
    "no forward": (
        CAUSAL.replace("def forward(self, input_ids)", "def run(self, input_ids)"),
        r"model\.py line \d+: the class Net defines no forward; its methods: run",
        "Rename run to forward",
        CAUSAL,
    ),
    "a head that is never called": (
        HIDDEN,
        r"model\.py line \d+: forward never calls self\.head, which has 40 outputs",
        r"return self\.head\(x\)",
        HIDDEN.replace(
            "return self.states(input_ids, look_back(input_ids))",
            "return self.head(self.states(input_ids, look_back(input_ids)))",
        ),
    ),
    "a loss alone": (
        a_forward("input_ids, labels", BOTH + "loss"),
        r"model\.py line \d+: forward returns one number, a loss, and no logits",
        "return logits, loss",
        a_forward("input_ids, labels", BOTH + "logits, loss"),
    ),
    "nothing is returned": (
        a_forward("input_ids", "logits = self.logits(input_ids, look_back(input_ids))"),
        r"model\.py line \d+: forward returns nothing",
        "return logits",
        CAUSAL,
    ),
    "numbers": (
        NUMBERS,
        r"model\.py line 11 \(h = self\.inp\(x\)\): Series takes numbers, not token ids: .* inp, Linear of 3",
        r"nn\.Embedding\(vocab_size, d_model\)",
        NUMBERS.replace("nn.Linear(3, d_model)", "nn.Embedding(40, d_model)"),
    ),
    "ids as numbers": (
        NUMBERS.replace("nn.Linear(3, d_model)", "nn.Linear(1, d_model)").replace(
            "inp(x)", "inp(x[..., None].float())"
        ),
        r"model\.py line 10: Series takes numbers, not token ids",
        r"nn\.Embedding\(vocab_size, d_model\)",
        NUMBERS.replace("nn.Linear(3, d_model)", "nn.Embedding(40, d_model)"),
    ),
    "a loss alone, named": (
        a_forward("input_ids, labels", BOTH + '{"loss": loss}'),
        "forward returns one number, a loss, and no logits",
        "return logits, loss",
        a_forward("input_ids, labels", BOTH + '{"loss": loss, "logits": logits}'),
    ),
    "a module that is not there": (
        DIVIDED,
        "No module named 'myblocks'",
        "Put myblocks.py beside model.py",
        CAUSAL,
    ),
    "no module class": (
        "class Net:\n    pass\n",
        "defines no class that derives from torch.nn.Module",
        "Derive the class of the model from nn.Module",
        CAUSAL,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named_and_the_remedy_works(name: str, make_model: Any) -> None:
    code, problem, remedy, repaired = CASES[name]
    with pytest.raises(ModelError, match=problem) as caught:
        make_model(code, PLAIN)
    assert "Transformer Builder" not in str(caught.value)
    with pytest.raises(ModelError, match=remedy):
        raise ModelError(caught.value.remedy)
    assert make_model(repaired, PLAIN)(torch.ones(2, 5).long()).shape[-1] == 40


@pytest.mark.parametrize("code", [HIDDEN, CASES["no forward"][0]])
def test_the_editor_is_named_where_the_configuration_holds_its_graph(code: str, make_model: Any) -> None:
    with pytest.raises(ModelError, match="Transformer Builder"):
        make_model(code, GRAPH_CONFIG | PLAIN)


def test_logits_that_come_only_with_targets_are_found(make_model: Any) -> None:
    body = f"if labels is None:\n    return None\n{BOTH}loss, logits"
    adapter = make_model(a_forward("input_ids, labels=None", body), PLAIN)
    assert adapter.contract.fixed_arguments == (("labels", "ids"),)
    assert adapter(torch.ones(2, 5).long()).shape == (2, 5, 40)
