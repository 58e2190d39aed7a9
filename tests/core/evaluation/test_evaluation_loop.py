from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import LENGTH, VOCAB_SIZE, TinyTransformer, make_model, make_splits
from transformer_foundry.core.evaluation import evaluate


class Uniform(nn.Module):
    """Knows nothing: every token is equally likely."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.weight.expand(*input_ids.shape, VOCAB_SIZE)


def test_a_uniform_model_has_the_loss_of_the_uniform_distribution() -> None:
    splits = make_splits()
    found = evaluate(Uniform(), splits, batch_size=3)
    targets = int((splits.validation.input_ids.lengths() - 1).sum())
    assert found["targets"] == targets
    assert found["loss"] == pytest.approx(math.log(VOCAB_SIZE), rel=1e-6)
    assert found["perplexity"] == pytest.approx(VOCAB_SIZE, rel=1e-5)


def test_bits_per_byte_are_the_bits_of_all_targets_over_the_bytes_behind_them() -> None:
    splits = make_splits()
    found = evaluate(Uniform(), splits)
    expected = math.log2(VOCAB_SIZE) * splits.validation.target_count / splits.validation.text_bytes
    assert found["bits_per_byte"] == pytest.approx(expected, rel=1e-6)
    assert "bits_per_byte" not in evaluate(TinyTransformer(is_causal=False), make_splits("masked_lm"))


def test_the_loss_does_not_depend_on_the_batch_size() -> None:
    whole, single = (evaluate(make_model(), make_splits(), batch_size=size) for size in (7, 1))
    assert single["targets"] == whole["targets"]
    assert single["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_evaluating_changes_nothing() -> None:
    model = make_model()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    first, second = evaluate(model, make_splits()), evaluate(model, make_splits())
    assert first == second
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_evaluation_can_be_cut_short() -> None:
    assert evaluate(Uniform(), make_splits(), batch_size=1, max_batches=2)["targets"] <= 2 * LENGTH


def test_an_empty_split_has_no_metrics() -> None:
    assert evaluate(Uniform(), make_splits(validation=0)) == {}
