from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.models import TaskLoss, task_loss_for
from transformer_foundry.core.models.losses import number_metrics

V = 5


class Fixed(nn.Module):
    """Returns given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.logits


def nats(logits: Tensor, label: int) -> float:
    return math.log(sum(math.exp(value) for value in logits.tolist())) - float(logits[label])


def batch_of(labels: Tensor) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(2, 4, dtype=torch.int64), "labels": labels}


LABELS = torch.tensor([[1, 2, -100, 3], [-100, 4, 0, -100]])


@pytest.mark.parametrize("task", ["masked_lm", "seq2seq_lm", "token_classification"])
def test_a_label_belongs_to_its_own_position(task: str) -> None:
    logits = torch.randn(2, 4, V, generator=torch.Generator().manual_seed(0))
    expected = sum(
        nats(logits[b, t], int(LABELS[b, t])) for b in range(2) for t in range(4) if int(LABELS[b, t]) != -100
    )
    parts = task_loss_for(task).loss(Fixed(logits), batch_of(LABELS))
    assert parts.loss_sum.item() == pytest.approx(expected, rel=1e-6)
    assert task_loss_for(task).count_targets(batch_of(LABELS)) == 5


def test_a_causal_model_predicts_the_next_label() -> None:
    logits = torch.randn(2, 4, V, generator=torch.Generator().manual_seed(0))
    expected = sum(
        nats(logits[b, t], int(LABELS[b, t + 1])) for b in range(2) for t in range(3) if int(LABELS[b, t + 1]) != -100
    )
    parts = task_loss_for("causal_lm").loss(Fixed(logits), batch_of(LABELS))
    assert parts.loss_sum.item() == pytest.approx(expected, rel=1e-6)
    # No position predicts the first label of each row.
    assert task_loss_for("causal_lm").count_targets(batch_of(LABELS)) == 4


def test_a_classifier_has_one_label_per_row() -> None:
    logits = torch.randn(2, V, generator=torch.Generator().manual_seed(0))
    parts = task_loss_for("sequence_classification").loss(Fixed(logits), batch_of(torch.tensor([3, 1])))
    assert parts.loss_sum.item() == pytest.approx(nats(logits[0], 3) + nats(logits[1], 1), rel=1e-6)
    assert task_loss_for("sequence_classification").count_targets(batch_of(torch.tensor([3, 1]))) == 2


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    logits = torch.randn(1, V, generator=torch.Generator().manual_seed(0))
    uniform = sum(nats(logits[0], label) for label in range(V)) / V
    parts = task_loss_for("sequence_classification").loss(
        Fixed(logits), {**batch_of(torch.tensor([3])), "input_ids": torch.zeros(1, 4)}, label_smoothing=0.2
    )
    assert parts.loss_sum.item() == pytest.approx(0.8 * nats(logits[0], 3) + 0.2 * uniform, rel=1e-6)


def test_accuracy_counts_targets_only() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 3, 0], [4, 4, 1, 1]]), V).float()
    parts = task_loss_for("masked_lm").loss(Fixed(logits), batch_of(LABELS), with_metrics=True)
    assert int(parts.metric_sums["correct"]) == 3


def test_perplexity_exists_only_for_tokens_and_never_overflows() -> None:
    assert task_loss_for("causal_lm").metrics(20.0, 10, {})["perplexity"] == pytest.approx(math.e**2)
    assert task_loss_for("causal_lm").metrics(1e6, 1, {})["perplexity"] == math.inf
    assert "perplexity" not in task_loss_for("sequence_classification").metrics(20.0, 10, {})


def test_a_batch_without_targets_has_no_loss() -> None:
    batch = batch_of(torch.full((2, 4), -100))
    assert float(task_loss_for("masked_lm").loss(Fixed(torch.randn(2, 4, V)), batch).loss_sum) == 0.0
    assert task_loss_for("masked_lm").count_targets(batch) == 0


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits = torch.randn(2, 4, V, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = task_loss_for("masked_lm").loss(Fixed(logits.double()), batch_of(LABELS)).loss_sum
    found = task_loss_for("masked_lm").loss(Fixed(logits), batch_of(LABELS)).loss_sum
    assert found.dtype is torch.float32
    assert float(found) == pytest.approx(float(exact), rel=1e-6)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(TrainingError, match="masked_lm"):
        task_loss_for("masked_ml")


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    predicted, actual = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2]
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), V).float()
    objective = task_loss_for("sequence_classification")
    batch = {"input_ids": torch.zeros(6, 2, dtype=torch.int64), "labels": torch.tensor(actual)}
    sums = objective.loss(Fixed(logits), batch, with_metrics=True).metric_sums
    found = objective.metrics(1.0, 6, {name: value.tolist() for name, value in sums.items()})
    # F1 = 2 * correct / (predicted + actual): 2*1/(2+2), 2*1/(1+2), 2*2/(3+2); classes 3 and 4 never occur.
    assert found["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 4 / 5) / 3)
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_macro_f1_leaves_out_ignored_labels() -> None:
    logits = torch.zeros(2, 4, V)
    sums = task_loss_for("token_classification").loss(Fixed(logits), batch_of(LABELS), with_metrics=True).metric_sums
    assert sums["class_seen"].sum() == 2 * 5


class NextToken(nn.Module):
    """Equal logits for the token after those that it gets, which it keeps."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.seen = input_ids
        return torch.zeros(len(input_ids), 1, 10)


def test_a_model_of_the_next_token_only_learns_the_last_token_of_a_row() -> None:
    ids = torch.arange(12).reshape(3, 4) % 10
    batch = {"input_ids": ids, "labels": torch.where(ids == 7, -100, ids)}  # the second row ends with padding
    model, objective = NextToken(), TaskLoss("causal_lm", shifts_labels=True, next_token_only=True)
    parts = objective.loss(model, batch)
    assert torch.equal(model.seen, ids[:, :-1])
    assert objective.count_targets(batch) == 2
    assert float(parts.loss_sum) == pytest.approx(2 * math.log(10))


def test_numbers_are_compared_in_standard_deviations_of_the_training_numbers() -> None:
    scores, numbers = torch.tensor([[0.5], [-1.0], [0.0]]), torch.tensor([30.0, 10.0, 26.0], dtype=torch.float64)
    objective = task_loss_for("regression", target_scale=(20.0, 4.0))
    parts = objective.loss(Fixed(scores), {"input_ids": torch.zeros(3, 1), "labels": numbers}, with_metrics=True)
    predicted = [22.0, 16.0, 20.0]
    squared = [(one - other) ** 2 for one, other in zip(predicted, numbers.tolist(), strict=True)]
    assert float(parts.loss_sum) == pytest.approx(sum(squared) / 16)
    found = objective.metrics(
        float(parts.loss_sum), 3, {}, {name: value.numpy() for name, value in parts.values.items()}
    )
    assert found["loss"] == pytest.approx(sum(squared) / 16 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(sum(squared) / 3))
    assert found["mae"] == pytest.approx((8 + 6 + 6) / 3)


def test_correlations_equal_those_of_numpy_and_pandas() -> None:
    random = np.random.default_rng(0)
    actual = random.integers(0, 6, 80) / 2
    predicted = np.round(actual + random.normal(size=80), 1)
    found = number_metrics(predicted, actual)
    ranks = [pd.Series(values).rank() for values in (predicted, actual)]
    assert found["pearson"] == pytest.approx(np.corrcoef(predicted, actual)[0, 1])
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert number_metrics(np.ones(3), np.arange(3.0))["pearson"] == 0


def test_each_label_of_a_text_has_a_binary_cross_entropy() -> None:
    scores = torch.tensor([[2.0, -1.0, 9.0], [0.5, 3.0, 9.0]])
    labels = torch.tensor([[1, 0], [1, -100]])
    objective = task_loss_for("multi_label_classification")
    batch = {"input_ids": torch.zeros(2, 1), "labels": labels}
    parts = objective.loss(Fixed(scores), batch, with_metrics=True)
    expected = sum(math.log(1 + math.exp(-sign * score)) for sign, score in ((1, 2.0), (-1, -1.0), (1, 0.5)))
    assert float(parts.loss_sum) == pytest.approx(expected)
    assert objective.count_targets(batch) == 3
    smoothed = objective.loss(Fixed(scores), batch, label_smoothing=0.2).loss_sum
    # Of each target 0.1 is moved to the other side: a loss that is higher by 0.1 x the score.
    assert float(smoothed) == pytest.approx(expected + 0.1 * (2.0 + 1.0 + 0.5))


def test_f1_of_several_labels_counts_decisions() -> None:
    scores = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    batch = {"input_ids": torch.zeros(3, 1), "labels": torch.tensor([[1, 0], [1, 1], [1, 0]])}
    objective = task_loss_for("multi_label_classification")
    parts = objective.loss(Fixed(scores), batch, with_metrics=True)
    found = objective.metrics(1.0, 6, {name: value.tolist() for name, value in parts.metric_sums.items()})
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert found["macro_f1"] == pytest.approx((2 * 2 / 5 + 0) / 2)
    assert found["exact_match"] == 0
