"""The optimizer's state is copied while the next step is computed: what is kept is nevertheless of its step."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from tests.core.training.tiny import assert_same_state, checkpoints, make_model, make_options, make_splits, run
from transformer_foundry.core.training import Checkpoint, TrainingState, fit, snapshots


class LateCopying(snapshots._Copying):
    """Copies nothing until somebody waits: whoever changes an original without waiting is found out."""

    def __init__(self, pairs: Any) -> None:
        self._pairs = pairs

    def wait(self) -> None:
        for target, source in self._pairs:
            target.copy_(source)
        self._pairs = []


def states_of(*, at_once: bool = False, **changes: Any) -> list[TrainingState]:
    """The states of a run, each read at its step or all of them at the end."""
    found = []
    for record in fit(make_model(), make_splits(), make_options(save_steps=2, **changes)):
        if isinstance(record, Checkpoint):
            found.append(record.state)
            assert not at_once or [tensor.sum() for tensor in record.state.optimizer.tensors.values()]
    return found


@pytest.fixture(autouse=True)
def copies_of_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SMALLEST_BUFFER_BYTES", 1)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"optimizer": "muon"}, {"optimizer": "sgd"}])
def test_what_is_copied_late_is_of_the_step_of_its_checkpoint(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = states_of(at_once=True, **changes)
    monkeypatch.setattr(snapshots, "_Copying", LateCopying)
    found = states_of(**changes)
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_state(ours, theirs)


def test_the_copy_is_made_while_the_next_step_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, is_computing, real = make_model(), threading.Event(), snapshots._copy_into
    waited: list[bool] = []

    def copy_when_the_next_step_has_begun(target: torch.Tensor, source: torch.Tensor) -> None:
        waited.append(is_computing.wait(60))
        real(target, source)

    monkeypatch.setattr(snapshots, "_copy_into", copy_when_the_next_step_has_begun)
    records = fit(model, make_splits(), make_options(save_steps=2, max_steps=4, eval_steps=None))
    checkpoint = next(record for record in records if isinstance(record, Checkpoint))
    model.register_forward_hook(lambda *_: is_computing.set())
    assert not waited or not is_computing.is_set()
    assert checkpoints(records)[-1].step == 4
    assert waited
    assert all(waited)
    assert checkpoint.step == 2


def test_a_return_to_a_checkpoint_that_is_still_being_copied_finds_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> list[Checkpoint]:
        model, calls = make_model(), iter(range(1, 100))
        model.register_forward_hook(lambda m, _, y: y * torch.nan if m.training and 6 <= next(calls) <= 7 else y)
        return checkpoints(run(model, save_steps=4, eval_steps=None, max_skipped_steps=2, max_steps=12))

    expected = train()
    monkeypatch.setattr(snapshots, "_Copying", LateCopying)
    found = train()
    assert found[-1].state.counters.rollbacks == 1
    assert_same_state(found[-1].state, expected[-1].state)


def test_the_model_is_the_callers_again_when_the_records_end(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = states_of(at_once=True)[0]
    monkeypatch.setattr(snapshots, "_Copying", LateCopying)
    records = fit(make_model(), make_splits(), make_options(save_steps=2))
    state = next(record.state for record in records if isinstance(record, Checkpoint))
    originals = state.optimizer.tensors._wait.__self__._pairs  # type: ignore[attr-defined]
    sources = [source for _, source in originals]
    records.close()  # type: ignore[attr-defined]
    for source in sources:
        source.zero_()
    assert_same_state(state, expected)


def test_an_error_of_the_copy_is_raised_where_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no memory for the copy")

    monkeypatch.setattr(snapshots, "_copy_into", fail)
    with pytest.raises(MemoryError, match="no memory for the copy"):
        run(save_steps=2)
