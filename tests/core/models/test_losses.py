from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.models import task_loss_for

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
