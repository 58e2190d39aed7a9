from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
import signal
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import (
    Letters,
    TinyTransformer,
    assert_same_state,
    checkpoints,
    make_model,
    make_options,
    make_splits,
    run,
)
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.training import Checkpoint, Event, Progress, Started, TrainingState, fit
from transformer_foundry.core.training.train_step import TrainStep

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")


def steps_of(records: list[Event], kind: type[Event]) -> list[int]:
    return [record.step for record in records if isinstance(record, kind)]


def last_state(records: list[Event]) -> Any:
    return checkpoints(records)[-1].state


def test_the_records_come_in_order() -> None:
    records = run()
    assert isinstance(records[0], Started)
    assert steps_of(records, Progress) == [1, 3, 4, 6, 8, 9, 12]
    for record in checkpoints(records):
        earlier = records[: records.index(record)]
        assert not isinstance(earlier[-1], Progress) or earlier[-1].step <= record.step
    assert isinstance(records[-1], Checkpoint)
    assert (records[-1].step, records[-1].reason) == (12, "end")


def test_checkpoints_have_reasons() -> None:
    reasons = [(record.step, record.reason) for record in checkpoints(run(eval_steps=5, save_steps=4))]
    assert reasons == [(4, "steps"), (5, "best"), (6, "epoch"), (8, "steps"), (10, "best"), (12, "end")]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_learns_and_shows_samples(task: str) -> None:
    options = make_options(max_steps=60, eval_steps=30, save_epochs=False)
    records = list(fit(make_model(task), make_splits(task), options, tokenizer=Letters()))
    progress = [record for record in records if isinstance(record, Progress)]
    assert progress[-1].metrics["train/loss"] < 0.8 * progress[0].metrics["train/loss"]
    assert [len(record.samples) for record in progress if "eval/loss" in record.metrics] == [2, 2]


def test_metrics_have_their_names() -> None:
    final = [record for record in run() if isinstance(record, Progress)][-1]
    assert final.metrics.keys() == {
        "train/loss", "train/learning_rate", "train/grad_norm", "train/epoch", "train/tokens_seen",
        "train/tokens_per_second", "train/step_seconds", "train/skipped_steps", "train/memory_gb",
        "eval/loss", "eval/perplexity", "eval/accuracy", "eval/bits_per_byte", "eval/seconds",
    }  # fmt: skip


def test_the_training_loss_is_the_mean_over_the_targets_since_the_last_record() -> None:
    seen: list[tuple[float, int]] = []

    class Watched(TinyTransformer):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            logits = super().forward(input_ids)
            if self.training:
                assert attention_mask is not None
                labels = torch.where(attention_mask == 1, input_ids, -100)[:, 1:]
                loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), reduction="sum")
                seen.append((loss.item(), int((labels != -100).sum())))
            return logits

    options = make_options(gradient_accumulation_steps=2, logging_steps=4, eval_steps=None)
    records = fit(Watched(), make_splits(), options)
    next(records)
    seen.clear()  # the passes of the memory forecast
    found = {record.step: record.metrics["train/loss"] for record in records if isinstance(record, Progress)}
    window = seen[2:8]  # steps 2 to 4, of two micro-batches each
    assert found[4] == pytest.approx(sum(loss for loss, _ in window) / sum(count for _, count in window), rel=1e-6)


def test_epochs_take_the_place_of_steps() -> None:
    records = run(num_train_epochs=1.5, gradient_accumulation_steps=2)
    assert isinstance(records[0], Started)
    assert records[0].total_steps == math.ceil(1.5 * 6 / 2)


def test_the_caller_keeps_its_random_numbers() -> None:
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = (random.random(), np.random.random(), torch.rand(1))
    model = make_model()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    run(model)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected


def test_random_numbers_drawn_between_records_change_nothing() -> None:
    disturbed = []
    for record in fit(make_model(), make_splits(), make_options()):
        disturbed.append(record)
        torch.rand(3), np.random.random(3), random.random()
    assert_same_state(last_state(disturbed), last_state(run()))


@pytest.mark.parametrize(
    "changes",
    [{"save_minutes": 1e-9}, {"eval_steps": 5}, {"logging_steps": 1}, {"save_steps": None}, {"num_samples": 0},
     {"per_device_eval_batch_size": 2}],
)  # fmt: skip
def test_what_is_seen_and_saved_changes_no_weight(changes: dict[str, Any]) -> None:
    ours = last_state(list(fit(make_model(), make_splits(), make_options(**changes), tokenizer=Letters())))
    theirs = last_state(run())
    assert all(torch.equal(ours.model[name], theirs.model[name]) for name in theirs.model)


def test_time_makes_checkpoints() -> None:
    records = run(save_minutes=1e-9, save_steps=None, eval_steps=None, save_epochs=False)
    assert [record.reason for record in checkpoints(records)] == ["minutes"] * 11 + ["end"]


def test_the_state_of_a_checkpoint_is_not_changed_by_later_steps() -> None:
    found = [record for record in fit(make_model(), make_splits(), make_options()) if isinstance(record, Checkpoint)]
    first = found[0].state.model["embedding.weight"]
    again = next(r for r in fit(make_model(), make_splits(), make_options()) if isinstance(r, Checkpoint))
    assert torch.equal(first, again.state.model["embedding.weight"])
    assert not torch.equal(first, found[-1].state.model["embedding.weight"])


def test_the_lowest_validation_loss_is_remembered() -> None:
    records = run(learning_rate=0.3, max_steps=40)
    losses = {r.step: r.metrics["eval/loss"] for r in records if isinstance(r, Progress) and "eval/loss" in r.metrics}
    loop = last_state(records).loop
    assert loop.best_loss == min(losses.values())
    assert losses[loop.best_step] == loop.best_loss
    assert loop.best_step in steps_of(records, Checkpoint)


def test_training_stops_when_the_validation_loss_no_longer_falls() -> None:
    records = run(learning_rate=1.0, max_steps=400, early_stopping_patience=2)
    loop = last_state(records).loop
    assert records[-1].step < 400
    assert records[-1].step == loop.best_step + 2 * 4
    assert checkpoints(records)[-1].reason == "end"


class Explodes(TinyTransformer):
    """Its loss is not finite in the forward passes of training with these numbers, counted from 1."""

    def __init__(self, *calls: int) -> None:
        super().__init__()
        self.exploding = calls
        self.passes = 0  # not a buffer: going back to a checkpoint does not turn it back

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.passes += self.training
        is_hit = self.training and self.passes in self.exploding
        return super().forward(input_ids) * (float("nan") if is_hit else 1.0)


def test_a_model_whose_loss_is_never_finite_is_given_up() -> None:
    with pytest.raises(
        TrainingError, match=r"steps 1 to 10 were skipped: the loss is not finite .*rate 0\.0\d+"
    ) as caught:
        run(Explodes(*range(1, 100)), max_steps=400)
    assert "training.learning_rate" in caught.value.remedy


def test_a_step_whose_loss_is_not_finite_moves_no_weight_and_is_counted() -> None:
    records = run(Explodes(7), logging_steps=1, eval_steps=None, save_steps=1)
    weights = {record.step: record.state.model["embedding.weight"] for record in checkpoints(records)}
    assert 7 not in weights  # a model in trouble is not kept
    progress = {record.step: record.metrics for record in records if isinstance(record, Progress)}
    assert "train/loss" not in progress[7]
    assert progress[12]["train/skipped_steps"] == 1
    assert math.isfinite(progress[12]["train/loss"])
    assert bool(weights[12].isfinite().all())


def test_a_spike_of_the_loss_is_skipped() -> None:
    class Spikes(Explodes):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            logits = super().forward(input_ids, attention_mask)
            return -50 * logits if self.training and self.passes == 80 else logits

    records = run(Spikes(), max_steps=100, logging_steps=1, eval_steps=None)
    progress = {record.step: record.metrics for record in records if isinstance(record, Progress)}
    assert [step for step in progress if "train/loss" not in progress[step]] == [80]
    untouched = run(Spikes(), max_steps=100, logging_steps=1, eval_steps=None, spike_threshold=0)
    assert last_state(untouched).loss_statistics.total_skipped_steps == 0


def test_training_returns_to_the_last_checkpoint_with_half_the_rate() -> None:
    records = run(Explodes(*range(10, 15)), max_skipped_steps=5, max_steps=20, eval_steps=None, save_epochs=False)
    again = [record for record in records if isinstance(record, Started)][1]
    assert (again.step, again.resumed) == (8, True)
    assert "Steps 10 to 14 were skipped" in again.notes[0]
    rates = [record.metrics["train/learning_rate"] for record in records if isinstance(record, Progress)]
    planned = [r.metrics["train/learning_rate"] for r in run(max_steps=20) if isinstance(r, Progress) and r.step == 20]
    assert rates[-1] == planned[0] / 2
    loop = last_state(records).loop
    # The data of the skipped steps are not repeated.
    assert (loop.step, loop.position, loop.rollbacks) == (20, 26, 1)


def test_an_interrupt_of_a_return_to_a_checkpoint_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    restore = TrainStep.restore

    def restore_and_interrupt(train_step: TrainStep, state: TrainingState) -> None:
        restore(train_step, state)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(TrainStep, "restore", restore_and_interrupt)
    options = make_options(max_skipped_steps=5, max_steps=20, eval_steps=None, save_epochs=False)
    records: list[Event] = []
    with pytest.raises(KeyboardInterrupt):
        records.extend(fit(Explodes(*range(10, 15)), make_splits(), options))
    before, interrupted = checkpoints(records)[-2:]
    assert (before.step, interrupted.step, interrupted.reason) == (8, 8, "interrupt")
    assert interrupted.state.loop.rollbacks == 1
    assert all(torch.equal(interrupted.state.model[name], before.state.model[name]) for name in before.state.model)


def test_training_ends_when_returning_to_a_checkpoint_does_not_help() -> None:
    with pytest.raises(TrainingError, match="3 returns to a checkpoint did not help"):
        run(Explodes(*range(10, 1000)), max_skipped_steps=5, max_steps=40, eval_steps=None)


def test_a_run_that_is_killed_after_a_return_to_a_checkpoint_does_the_same_again() -> None:
    options = {"max_skipped_steps": 5, "max_steps": 20, "eval_steps": None, "save_epochs": False}
    whole = run(Explodes(*range(10, 15)), **options)
    resumed_model = Explodes(*range(2, 7))
    resumed = list(fit(resumed_model, make_splits(), make_options(**options), resume_from=checkpoints(whole)[1].state))
    assert_same_state(last_state(resumed), last_state(whole))


class Overflows(TinyTransformer):
    """Its loss is finite; its gradient is not in the first ``calls`` forward passes of training."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.overflowing = calls

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits = super().forward(input_ids)
        if not self.training or self.calls > self.overflowing:
            return logits
        return logits + (logits * 0).abs().sqrt()


def test_a_gradient_that_is_never_finite_stops_training_in_half_precision() -> None:
    with pytest.raises(TrainingError, match=r"last 4[0-2] steps .* skipped") as caught:
        run(Overflows(1000), precision="fp16", max_steps=400, eval_steps=None)
    assert "training.precision=fp32" in caught.value.remedy


def test_skipped_steps_are_counted_across_a_resume() -> None:
    options = make_options(precision="fp16", max_steps=400, eval_steps=None, save_steps=24, save_epochs=False)
    stream = fit(Overflows(1000), make_splits(), options)
    state = next(record.state for record in stream if isinstance(record, Checkpoint))
    with pytest.raises(TrainingError, match=r"steps \(1 to 4[0-2]\)"):
        list(fit(Overflows(1000), make_splits(), options, resume_from=state))


def test_a_short_run_in_which_every_step_is_skipped_stops_with_an_error() -> None:
    with pytest.raises(TrainingError, match="last 6 steps"):
        run(Overflows(1000), precision="fp16", max_steps=6)


def test_a_scaler_has_time_to_find_its_scale() -> None:
    records = run(Overflows(16), precision="fp16", max_steps=24)
    assert records[-1].step == 24
    assert last_state(records).loss_statistics.skipped_steps == 0


def test_an_empty_validation_split_is_noted_and_trained_without() -> None:
    records = run(splits=make_splits(validation=0))
    assert isinstance(records[0], Started)
    assert "validation split is empty" in records[0].notes[0]
    assert not any("eval/loss" in record.metrics for record in records if isinstance(record, Progress))


def test_the_manifest_says_how_the_run_came_about() -> None:
    stream = fit(make_model(), make_splits(), make_options(), identity={"model_code": "a"}, manifest={"note": 1})
    started = next(iter(stream))
    assert isinstance(started, Started)
    assert started.manifest["identity"] == {"data": "f" * 64, "model_code": "a"}
    assert started.manifest["parameters"]["training"]["max_steps"] == 12
    assert started.manifest["sessions"][0]["step"] == 0
    assert started.manifest["note"] == 1


def test_the_parameters_of_other_sections_are_merged_into_the_manifest() -> None:
    given = {"parameters": {"model": {"source": "gpt"}, "training": {"max_steps": 7, "extra": True}}}
    started = next(iter(fit(make_model(), make_splits(), make_options(), manifest=given)))
    assert isinstance(started, Started)
    training = {**dataclasses.asdict(make_options()), "extra": True}
    assert started.manifest["parameters"] == {"model": {"source": "gpt"}, "training": training}
    assert given["parameters"]["training"] == {"max_steps": 7, "extra": True}


def test_the_model_is_left_in_eval_mode() -> None:
    model = make_model()
    stream = fit(model, make_splits(), make_options())
    list(itertools.islice(stream, 2))
    assert model.training
    stream.close()  # type: ignore[attr-defined]
    assert not model.training


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns(precision: str) -> None:
    records = run(max_steps=60, eval_steps=60, precision=precision, save_epochs=False, save_steps=None)
    assert records[-1].metrics["eval/loss"] < 2.5
    assert all(p.dtype is torch.float32 for p in last_state(records).model.values() if p.is_floating_point())
