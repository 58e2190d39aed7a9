"""The logits in what models return, with a contract and without one."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transformer_foundry.core.models.inference.call import follow
from transformer_foundry.core.models.inference.output_format import find_logits, logits_path

B, T, D, V = 3, 7, 8, 20
LOGITS, HIDDEN, OTHER = torch.zeros(B, T, V), torch.zeros(B, T, D), torch.zeros(B, T, V)
CLASSES, LOSS, CACHE = torch.zeros(B, 2), torch.tensor(0.0), torch.zeros(B, 2, T, 4)
Pair = namedtuple("Pair", "states scores")


@dataclass
class Result:
    last_hidden_state: Tensor
    lm_logits: Tensor


OUTPUTS: dict[str, Any] = {
    "tensor": LOGITS,
    "logits first": (LOGITS, LOSS),
    "hidden state first": (HIDDEN, LOGITS),
    "loss first": (LOSS, LOGITS, HIDDEN),
    "named": {"hidden_states": HIDDEN, "lm_logits": LOGITS},
    "router logits": {"router_logits": torch.zeros(B, T, 4), "output": LOGITS},
    "memory ends with y": {"memory": HIDDEN, "out": LOGITS},
    "two heads": {"prediction_logits": LOGITS, "seq_relationship_logits": CLASSES},
    "dataclass": Result(HIDDEN, LOGITS),
    "named tuple": Pair(HIDDEN, LOGITS),
    "object": SimpleNamespace(hidden=HIDDEN, logits=LOGITS),
    "in a tuple": (LOSS, {"logits": LOGITS, "cache": [CACHE]}),
    "in a mapping": {"aux": {"loss": LOSS}, "main": Result(HIDDEN, LOGITS)},
    "as wide as another": {"embeddings": OTHER, "prediction_logits": LOGITS},
}


class Returns(nn.Module):
    """A model with a token table, a head and a fixed output."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.tokens, self.positions, self.head = nn.Embedding(V, D), nn.Embedding(64, D), nn.Linear(D, V)
        self.output = output


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_logits_are_found_with_and_without_a_contract(name: str) -> None:
    output = OUTPUTS[name]
    found = find_logits(output, B, T, (V, None))
    assert found is not None
    assert found.tensor is LOGITS
    path = logits_path(Returns(output), [torch.zeros(B, T, dtype=torch.int64)], output)
    assert follow(output, path) is LOGITS


def test_what_holds_no_tensor_has_no_logits() -> None:
    assert find_logits({"logits": "text"}, B, T, (V,)) is None
    with pytest.raises(TypeError, match="holds no tensor"):
        logits_path(nn.Linear(1, 1), [], {"logits": "text"})


def test_hidden_states_of_a_classifier_are_no_logits() -> None:
    found = find_logits({"hidden": HIDDEN, "pooled": torch.zeros(B, D), "logits": CLASSES}, B, T, (V, None))
    assert found is not None
    assert found.tensor is CLASSES
