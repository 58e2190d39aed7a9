"""The optimizer's state is copied while the next step is computed: what is kept is nevertheless of its step."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import torch

from tests.core.training.tiny import assert_same_state, checkpoints, make_model, make_options, make_splits, run
from transformer_foundry.core.training import Checkpoint, TrainingState, fit
from transformer_foundry.core.training.checkpointing import async_copy


class LateCopying(async_copy._Copying):
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
    monkeypatch.setattr(async_copy, "SMALLEST_BUFFER_BYTES", 1)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"optimizer": "muon"}, {"optimizer": "sgd"}])
def test_what_is_copied_late_is_of_the_step_of_its_checkpoint(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = states_of(at_once=True, **changes)
    monkeypatch.setattr(async_copy, "_Copying", LateCopying)
    found = states_of(**changes)
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_state(ours, theirs)


def test_the_copy_is_made_while_the_next_step_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    is_computing, waited, begun = threading.Event(), list[bool](), itertools.count(1)
    begin, copy_into = async_copy.StagingBuffers.begin, async_copy._copy_into

    def begin_and_ask_for_a_pass(buffers: Any, tensors: Any) -> Any:
        if next(begun) == 2:  # the first is for nobody, after the last nothing is computed
            is_computing.clear()
        return begin(buffers, tensors)

    def copy_beside_a_pass(target: torch.Tensor, source: torch.Tensor) -> None:
        waited.append(is_computing.wait(60))
        copy_into(target, source)

    monkeypatch.setattr(async_copy.StagingBuffers, "begin", begin_and_ask_for_a_pass)
    monkeypatch.setattr(async_copy, "_copy_into", copy_beside_a_pass)
    model = make_model()
    model.register_forward_hook(lambda *_: is_computing.set())
    assert [c.step for c in checkpoints(run(model, save_steps=2, max_steps=4, eval_steps=None))] == [2, 4]
    assert waited
    assert all(waited)


def test_the_first_save_of_the_weights_takes_no_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, room_for = list[int](), async_copy.StagingBuffers._room_for

    def note(buffers: Any, tensor: torch.Tensor) -> torch.Tensor:
        room = room_for(buffers, tensor)
        taken.append(room.data_ptr())
        return room

    monkeypatch.setattr(async_copy.StagingBuffers, "_room_for", note)
    records = fit(make_model(), make_splits(), make_options(save_steps=2))
    next(records)
    before = set(taken)
    state = next(record.state for record in records if isinstance(record, Checkpoint))
    assert before == {tensor.data_ptr() for tensor in state.model.values()}


def test_a_return_to_a_checkpoint_that_is_still_being_copied_finds_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> list[Checkpoint]:
        model, calls = make_model(), iter(range(1, 100))
        model.register_forward_hook(lambda m, _, y: y * torch.nan if m.training and 6 <= next(calls) <= 7 else y)
        return checkpoints(run(model, save_steps=4, eval_steps=None, max_skipped_steps=2, max_steps=12))

    expected = train()
    monkeypatch.setattr(async_copy, "_Copying", LateCopying)
    found = train()
    assert found[-1].state.loop.rollbacks == 1
    assert_same_state(found[-1].state, expected[-1].state)


def test_the_model_is_the_callers_again_when_the_records_end(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = states_of(at_once=True)[0]
    monkeypatch.setattr(async_copy, "_Copying", LateCopying)
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

    monkeypatch.setattr(async_copy, "_copy_into", fail)
    with pytest.raises(MemoryError, match="no memory for the copy"):
        run(save_steps=2)
