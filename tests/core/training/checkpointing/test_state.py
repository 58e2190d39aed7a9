"""The states that a checkpoint keeps as JSON."""

from __future__ import annotations

import json

import pytest

from transformer_foundry.core.training.checkpointing.state import (
    CheckpointedState,
    LoopState,
    LossStatistics,
    LossWindow,
    MemoryDecision,
    PlannedEnd,
    RunDecisions,
    TimePlan,
)

STATES = [
    LoopState(step=7, position=9, is_recorded=False, best_loss=0.1, best_step=4, metrics={"train/loss": 0.3}),
    LossWindow([0.1, 0.2], [3, 4], 1.5, 99),
    LossStatistics(1, 2, 3, 0.1, 0.2),
    TimePlan(12.5, (PlannedEnd(3, 0.1, 50, 0.2), PlannedEnd(9, 0.3, 60, 0.1))),
    RunDecisions(MemoryDecision(2, True, False, 10**9), False),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_a_state_comes_back_from_json(state: CheckpointedState) -> None:
    found = type(state)()
    assert found != state
    found.load_state_dict(json.loads(json.dumps(state.state_dict())))
    assert found == state


@pytest.mark.parametrize("state", [type(state)() for state in STATES], ids=lambda state: type(state).__name__)
def test_a_new_state_comes_back_from_json(state: CheckpointedState) -> None:
    found = type(state)()
    found.load_state_dict(json.loads(json.dumps(state.state_dict())))
    assert found == state


def test_a_copy_shares_nothing_with_its_state() -> None:
    window = LossWindow([0.1], [3])
    copied, values = window.copy(), window.state_dict()
    window.losses.append(0.2)
    assert (copied.losses, values["losses"]) == ([0.1], [0.1])


def test_fields_that_are_missing_keep_their_values_and_unknown_ones_are_ignored() -> None:
    loop = LoopState(step=3, position=5)
    loop.load_state_dict({"step": 4, "of_another_version": 1})
    assert loop == LoopState(step=4, position=5)
