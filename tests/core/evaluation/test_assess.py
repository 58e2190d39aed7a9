"""A model is compared with each baseline on the metric that the baseline is about."""

from __future__ import annotations

import pytest

from transformer_foundry.core.evaluation.assess import compare_with_baselines


@pytest.mark.parametrize(
    ("metrics", "baselines", "is_beaten"),
    [
        ({"loss": 2.0}, {"bigram_loss": 2.5}, True),
        ({"loss": 2.5}, {"bigram_loss": 2.5}, False),
        ({"accuracy": 0.5}, {"majority_accuracy": 0.4}, True),
        ({"accuracy": 0.3}, {"naive_bayes_accuracy": 0.4}, False),
    ],
)
def test_lower_loss_and_higher_accuracy_beat_a_baseline(
    metrics: dict[str, float], baselines: dict[str, float], is_beaten: bool
) -> None:
    (comparison,) = compare_with_baselines(metrics, baselines)
    assert comparison["is_beaten"] is is_beaten
    assert ("does not beat" in comparison["sentence"]) is not is_beaten


def test_a_baseline_of_a_metric_that_was_not_measured_is_left_out() -> None:
    assert compare_with_baselines({"loss": 1.0}, {"majority_accuracy": 0.4, "unknown": 1.0}) == []
