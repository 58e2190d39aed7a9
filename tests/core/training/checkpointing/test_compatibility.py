from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.core.training.tiny import (
    Letters,
    TinyTransformer,
    assert_same_state,
    checkpoints,
    history,
    make_model,
    make_options,
    make_splits,
)
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training import Checkpoint, Event, Started, TrainingState, fit
from transformer_foundry.core.training.checkpointing.compatibility import CHANGEABLE
from transformer_foundry.core.training.trainer import Trainer

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")


def train(task: str = "causal_lm", resume_from: TrainingState | None = None, **changes: Any) -> list[Event]:
    options = make_options(**changes)
    return list(fit(make_model(task), make_splits(task), options, tokenizer=Letters(), resume_from=resume_from))


def started(records: list[Event]) -> Started:
    assert isinstance(records[0], Started)
    return records[0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one_from_every_step(task: str, accumulation: int) -> None:
    options = {"gradient_accumulation_steps": accumulation, "save_steps": 1, "max_steps": 9}
    whole = train(task, **options)
    for made in checkpoints(whole)[:-1]:
        resumed = train(task, made.state, **options)
        assert started(resumed).step == made.step
        assert_same_state(checkpoints(resumed)[-1].state, checkpoints(whole)[-1].state)
        assert history(resumed) == [row for row in history(whole) if row[0] > made.step]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_resumes_to_the_bit(precision: str) -> None:
    whole = train(precision=precision)
    resumed = train(resume_from=checkpoints(whole)[0].state, precision=precision)
    assert_same_state(checkpoints(resumed)[-1].state, checkpoints(whole)[-1].state)


class Interrupted(TinyTransformer):
    """Raises, or is sent, an interrupt in the n-th of its 28 forward passes (16 of steps, 12 of evaluations)."""

    def __init__(self, at: int, by_signal: bool = False) -> None:
        super().__init__()
        self.at, self.by_signal, self.forwards, self.is_armed = at, by_signal, 0, False

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.forwards += self.is_armed
        logits = super().forward(input_ids)
        if self.forwards == self.at and self.by_signal:
            os.kill(os.getpid(), signal.SIGINT)
        elif self.forwards == self.at:
            raise KeyboardInterrupt
        return logits


def interrupted(model: TinyTransformer, **changes: Any) -> list[Event]:
    records: list[Event] = []
    stream = fit(model, make_splits(), make_options(**changes), tokenizer=Letters())
    records.append(next(stream))
    vars(model)["is_armed"] = True  # not yet in the passes of the memory forecast
    with pytest.raises(KeyboardInterrupt):
        records.extend(stream)
    return records


@pytest.mark.parametrize("by_signal", [True, False])
@settings(deadline=None, max_examples=12)
@given(at=st.integers(1, 28))
def test_an_interrupt_anywhere_yields_a_checkpoint_to_go_on_from(by_signal: bool, at: int) -> None:
    changes = {"gradient_accumulation_steps": 2, "max_steps": 8}
    whole = train(**changes)
    records = interrupted(Interrupted(at, by_signal), **changes)
    made = checkpoints(records)[-1]
    assert made.reason == "interrupt"
    made.state.model["calls"].copy_(torch.tensor(2 * made.step))  # the interrupted forward pass counted itself
    resumed = train(resume_from=made.state, **changes)
    assert_same_state(checkpoints(resumed)[-1].state, checkpoints(whole)[-1].state)
    assert history(records) + history(resumed) == history(whole)


def test_an_interrupt_while_metrics_are_noted_loses_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train()
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_update_best", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        records = interrupted(TinyTransformer())
    made = checkpoints(records)[-1]
    assert (made.step, made.reason) == (4, "interrupt")
    assert history(records) + history(train(resume_from=made.state)) == history(whole)


def test_a_state_can_be_resumed_twice() -> None:
    state = checkpoints(train())[0].state
    first, second = (checkpoints(train(resume_from=state))[-1].state for _ in range(2))
    assert_same_state(first, second)


def test_nothing_is_trained_when_all_steps_are_done() -> None:
    records = train(resume_from=checkpoints(train())[-1].state)
    assert len(records) == 1
    assert started(records).resumed
    assert "step 12 of 12 is reached" in started(records).notes[0]


def test_a_run_that_is_longer_than_what_is_asked_for_is_reported_as_it_is() -> None:
    records = train(resume_from=checkpoints(train())[-1].state, max_steps=6)
    (note,) = started(records).notes
    assert "the run is at step 12, after the 6 that are asked for" in note


def test_nothing_is_trained_after_early_stopping() -> None:
    changes = {"learning_rate": 1.0, "max_steps": 400, "early_stopping_patience": 1}
    state = checkpoints(train(**changes))[-1].state
    records = train(resume_from=state, **changes)
    assert len(records) == 1
    assert "stopped early" in started(records).notes[0]


def test_a_constant_rate_after_the_warm_up_depends_on_no_length() -> None:
    changes = {"lr_scheduler_type": "constant", "warmup_ratio": 0.1}
    longer = train(resume_from=checkpoints(train(**changes))[-1].state, max_steps=20, **changes)
    assert started(longer).notes[0] == "The run was planned for 12 steps and now ends at 20."


def test_a_run_can_be_extended() -> None:
    short = train(lr_scheduler_type="constant", warmup_ratio=0.0)
    longer = train(
        resume_from=checkpoints(short)[-1].state, lr_scheduler_type="constant", warmup_ratio=0.0, max_steps=20
    )
    at_once = train(lr_scheduler_type="constant", warmup_ratio=0.0, max_steps=20)
    assert started(longer).notes[0] == "The run was planned for 12 steps and now ends at 20."
    ours, theirs = (checkpoints(records)[-1].state for records in (longer, at_once))
    assert all(torch.equal(ours.model[name], theirs.model[name]) for name in theirs.model)


def test_extending_a_cosine_is_noted() -> None:
    records = train(resume_from=checkpoints(train())[-1].state, max_steps=16)
    assert "From step 12 the learning rate follows the new length" in started(records).notes[0]
    assert records[-1].step == 16


CHANGES = {
    "learning_rate": 0.5, "seed": 7, "per_device_train_batch_size": 2, "weight_decay": 0.3, "warmup_ratio": 0.5,
    "gradient_accumulation_steps": 2, "max_grad_norm": 0.0, "precision": "bf16", "lr_scheduler_type": "linear",
    "beta1": 0.5, "beta2": 0.5, "min_lr_ratio": 0.5, "label_smoothing": 0.1,
    "optimizer": "muon", "momentum": 0.5, "decay_ratio": 0.5, "ema_decay": 0.9, "model_loss": "ours",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_an_option_that_changes_the_weights_is_refused(name: str) -> None:
    state = checkpoints(train())[0].state
    with pytest.raises(CheckpointError, match=f"training.{name} is {CHANGES[name]!r}") as caught:
        train(resume_from=state, **{name: CHANGES[name]})
    assert "run.name=NEW" in caught.value.remedy
    assert f"training.{name}=" in caught.value.remedy


def test_every_option_is_either_changeable_or_refused() -> None:
    names = {field.name for field in dataclasses.fields(make_options())}
    assert CHANGEABLE | set(CHANGES) | {"total_train_batch_size"} == names  # only with another batch size


@pytest.mark.parametrize(
    ("name", "word"), [("model_code", "model.py"), ("data", "other data"), ("config", "config.json")]
)
def test_a_state_of_something_else_is_refused(name: str, word: str) -> None:
    state = checkpoints(train())[0].state
    foreign = dataclasses.replace(state, identity={**state.identity, name: "0" * 64})
    ours = {name: "1" * 64}
    with pytest.raises(CheckpointError, match=word):
        next(iter(fit(make_model(), make_splits(), make_options(), resume_from=foreign, identity=ours)))


def test_weights_of_another_shape_are_refused() -> None:
    state = checkpoints(train())[0].state
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        next(iter(fit(TinyTransformer(output_size=5), make_splits(), make_options(), resume_from=state)))


def test_another_precision_or_device_is_noted() -> None:
    state = dataclasses.replace(checkpoints(train())[0].state, precision="fp16", device="cuda")
    assert "fp16 on cuda" in started(train(resume_from=state)).notes[0]


def test_notes_of_reading_are_passed_on() -> None:
    state = dataclasses.replace(checkpoints(train())[0].state, notes=("step-00000008 is damaged.",))
    assert started(train(resume_from=state)).notes[0] == "step-00000008 is damaged."


def test_checkpoint_records_carry_the_newest_metrics() -> None:
    made = [record for record in train() if isinstance(record, Checkpoint)]
    assert made[-1].metrics["train/loss"] == history(train())[-1][1]["train/loss"]
