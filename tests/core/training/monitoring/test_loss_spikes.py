"""Which steps are skipped."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.training.tiny import make_options
from transformer_foundry.core.training.checkpointing.state import LossStatistics
from transformer_foundry.core.training.monitoring.loss_spikes import detect_bad_step, update_statistics
from transformer_foundry.core.training.train_step import StepStats


def step_of(loss: float, targets: int) -> StepStats:
    return StepStats(loss * targets, targets, targets, 1.0)


def count_skipped(losses: list[float], targets: int) -> int:
    statistics, skipped = LossStatistics(), 0
    for loss in losses:
        fault = detect_bad_step(step_of(loss, targets), statistics, make_options().spike_threshold)
        update_statistics(step_of(loss, targets), fault, statistics)
        skipped += fault is not None
    return skipped


@pytest.mark.parametrize("rows", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("share", [0.001, 0.003, 0.01, 0.03, 0.1])
def test_a_rare_hard_row_of_a_small_batch_is_no_spike(rows: int, share: float) -> None:
    """A classifier that is sure of all rows but a few: those few are what is left to learn."""
    random = np.random.default_rng(0)
    losses = []
    for step in range(2000):
        easy = random.exponential(0.02 + 2 * np.exp(-step / 50), rows)
        hard = random.uniform(2.5, 10.0, rows)
        losses.append(float(np.where(random.random(rows) < share, hard, easy).mean()))
    assert count_skipped(losses, rows) == 0


@pytest.mark.parametrize(("targets", "rise"), [(16, 5.0), (512, 1.0), (65536, 0.5)])
def test_a_rise_beyond_chance_is_a_spike(targets: int, rise: float) -> None:
    steady = np.random.default_rng(0).normal(3.0, 0.02, 100).tolist()
    assert count_skipped([*steady, 3.0 + rise], targets) == 1
    assert count_skipped([*steady, 3.05], targets) == 0


def test_steps_without_targets_say_nothing_of_the_loss() -> None:
    statistics = LossStatistics()
    for targets in (8, 0, 8):
        update_statistics(step_of(2.0, targets), None, statistics)
    assert (statistics.count, statistics.mean, statistics.variance) == (2, 2.0, 0.0)
