"""What processes that train together agree on, and what stays the same when their number changes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.training.forked import run_together
from tests.core.training.tiny import TinyTransformer, checkpoints, make_options, make_splits
from transformer_foundry.core.base.errors import TrainingError, format_error
from transformer_foundry.core.training import Progress, Started, fit
from transformer_foundry.core.training import trainer as trainer_module
from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint, write_checkpoint
from transformer_foundry.core.training.checkpointing.directory import newest_checkpoint
from transformer_foundry.core.training.train_step import TrainStep

KEPT: dict[str, Any] = {
    "lr_scheduler_type": "constant", "warmup_ratio": 0.0, "eval_steps": None, "save_steps": None, "save_epochs": False,
    "optimizer": "sgd",
}  # fmt: skip
TOTAL = {"per_device_train_batch_size": "auto", "total_train_batch_size": 4}


class RowLog:
    """Notes the rows that each step trains on."""

    def __init__(self, path: Path) -> None:
        self.path, self.step = path, TrainStep.accumulate

    def __call__(self, train_step: TrainStep, batches: Any) -> Any:
        rows = [row[row != 0].tolist() for batch in batches for row in batch["input_ids"]]
        with self.path.open("a") as file:
            file.write(json.dumps(rows) + "\n")
        return self.step(train_step, batches)


def train_session(folder: Path, changes: Mapping[str, Any]) -> None:
    """Train up to ``max_steps`` from the newest checkpoint; rank 0 writes the next one."""
    rank = os.environ.get("RANK", "0")
    log = RowLog(folder / f"rows-{rank}.jsonl")
    TrainStep.accumulate = lambda step, batches: log(step, batches)  # type: ignore[method-assign]
    newest = newest_checkpoint(folder)
    state = None if newest is None else read_checkpoint(newest)
    options = make_options(**{**KEPT, **changes})
    records = list(fit(TinyTransformer(dropout=0.0), make_splits(), options, resume_from=state))
    if rank == "0":
        started = records[0]
        assert isinstance(started, Started)
        (folder / "manifest.txt").write_text(json.dumps(started.manifest["sessions"][-1]))
        write_checkpoint(folder, checkpoints(records)[-1])


def trained_rows(folder: Path) -> list[tuple[int, ...]]:
    return [
        tuple(row) for log in folder.glob("rows-*") for line in log.read_text().splitlines() for row in json.loads(line)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "alone", "steps"),
    [
        ({"per_device_train_batch_size": 2}, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, 11),
        (TOTAL, TOTAL, 12),  # the last step of an epoch has two rows: two of four processes have none
    ],
    ids=["rows of a process", "rows of all"],
)
def test_two_processes_then_one_then_four_train_on_each_row_once_an_epoch(
    tmp_path: Path, batch: dict[str, Any], alone: dict[str, Any], steps: int
) -> None:
    for processes, max_steps in ((2, 3), (1, 5), (4, steps)):
        assert run_together(processes, train_session, tmp_path, {**batch, "max_steps": max_steps}) == [0] * processes
        state = read_checkpoint(newest_checkpoint(tmp_path) or tmp_path)
        assert (state.step_batch.world_size, state.step_batch.rows_per_step) == (processes, 4)
        session = json.loads((tmp_path / "manifest.txt").read_text())
        assert (session["world_size"], session["rows_per_step"]) == (processes, 4)
    splits = make_splits()
    wanted = Counter(tuple(splits.train.input_ids[row].tolist()) for row in range(len(splits.train)))
    assert Counter(trained_rows(tmp_path)) == wanted + wanted  # two epochs
    options = make_options(**KEPT, **alone, max_steps=steps)
    expected = checkpoints(list(fit(TinyTransformer(dropout=0.0), splits, options)))[-1].state
    for name, tensor in expected.model.items():
        if name != "calls":
            torch.testing.assert_close(state.model[name], tensor, rtol=0, atol=1e-5)


class Disturbed(TinyTransformer):
    """Calls ``disturb`` with the number of each pass of training."""

    def __init__(self, disturb: Callable[[int], float]) -> None:
        super().__init__(dropout=0.0)
        self.disturb, self.passes = disturb, 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        factor = 1.0
        if self.training:
            self.passes += 1
            factor = self.disturb(self.passes)
        return super().forward(input_ids, attention_mask) * factor


class Clock:
    """A clock that stands still, or is a minute later each time."""

    def __init__(self, stands: bool) -> None:
        self.now, self.pace = time.monotonic(), 0.0 if stands else 60.0

    def monotonic(self) -> float:
        self.now += self.pace
        return self.now

    def perf_counter(self) -> float:
        return self.monotonic()


def train_and_return(folder: Path) -> None:
    rank = os.environ["RANK"]
    trainer_module.time = Clock(stands=rank == "1")  # type: ignore[assignment]
    model = Disturbed(lambda number: math.nan if number in (6, 7) else 1.0)
    options = make_options(**{**KEPT, "save_minutes": 3.0, "max_steps": 10, "max_skipped_steps": 2})
    records = list(fit(model, make_splits(), options))
    steps = [(type(record).__name__, record.step) for record in records if not isinstance(record, Progress)]
    torch.save({"steps": steps, "weights": model.state_dict()}, folder / f"rank{rank}.pt")


@pytest.mark.slow
def test_all_processes_save_and_return_to_the_same_steps_although_their_clocks_differ(tmp_path: Path) -> None:
    assert run_together(2, train_and_return, tmp_path) == [0, 0]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert first["steps"] == second["steps"]
    returned = [step for kind, step in first["steps"] if kind == "Started"][1:]
    assert len(returned) == 1
    assert 0 < returned[0] < 6
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])


def train_until_it_fails(folder: Path, fault: str) -> None:
    rank = os.environ["RANK"]
    splits, disturb = make_splits(), FAULTS.get(fault, lambda folder: None)
    if fault == "other data" and rank == "1":
        splits = dataclasses.replace(splits, fingerprint="e" * 64)

    def act(number: int) -> float:
        if rank == "1" and number == 3:
            disturb(folder)
        return 1.0

    smoothing = 0.1 if fault == "another option" and rank == "1" else 0.0
    options = make_options(
        **KEPT, process_timeout_minutes=0.05 if fault == "a freeze" else 1.0, label_smoothing=smoothing
    )
    try:
        list(fit(Disturbed(act), splits, options))
    except TrainingError as err:
        (folder / f"error{rank}.txt").write_text(format_error(err))


def freeze(folder: Path) -> None:
    while not (folder / "error0.txt").exists():
        time.sleep(0.05)


FAULTS: dict[str, Callable[[Path], object]] = {"a process that dies": lambda folder: os._exit(1), "a freeze": freeze}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("other data", "different values of the data: ffffffffffff in process 0, eeeeeeeeeeee in process 1"),
        ("another option", "different values of training.label_smoothing: 0.0 in process 0, 0.1 in process 1"),
        ("a process that dies", "Process 1 of 2 has ended; process 0 cannot continue alone"),
        ("a freeze", "Process 1 of 2 gave no answer in time; process 0 cannot continue alone"),
    ],
)
def test_processes_that_do_not_fit_or_are_gone_end_training_with_three_lines(
    tmp_path: Path, fault: str, wanted: str
) -> None:
    run_together(2, train_until_it_fails, tmp_path, fault)
    lines = (tmp_path / "error0.txt").read_text().splitlines()
    assert wanted in lines[0]
    assert len(lines) == 3
