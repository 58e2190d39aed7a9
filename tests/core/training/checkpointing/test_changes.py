"""Going on with other parameters: the same run, a longer one, a fork, or none of these."""

from __future__ import annotations

import dataclasses
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.core.training.tiny import assert_same_state, checkpoints, make_model, make_options, make_splits
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training import Started, TrainingState, fit, write_checkpoint
from transformer_foundry.core.training.checkpointing.compatibility import change_verdict, read_fork
from transformer_foundry.core.training.options import TrainingOptions

DOCUMENTATION = Path(__file__).parents[4] / "docs" / "checkpoints.md"

CHANGES: list[tuple[str, Any, str]] = [
    ("max_steps", 16, "extend"),
    ("num_train_epochs", 3.0, "extend"),
    ("eval_steps", 2, "continue"),
    ("eval_batches", 1, "continue"),
    ("per_device_eval_batch_size", 2, "continue"),
    ("logging_steps", 1, "continue"),
    ("early_stopping_patience", 9, "continue"),
    ("save_steps", 1, "continue"),
    ("save_minutes", 5.0, "continue"),
    ("save_total_limit", 3, "continue"),
    ("num_samples", 1, "continue"),
    ("sample_temperature", 0.5, "continue"),
    ("learning_rate", 1e-3, "fork"),
    ("lr_scheduler_type", "linear", "fork"),
    ("warmup_ratio", 0.5, "fork"),
    ("weight_decay", 0.0, "fork"),
    ("per_device_train_batch_size", 2, "fork"),
    ("gradient_accumulation_steps", 2, "fork"),
    ("seed", 7, "fork"),
    ("optimizer", "sgd", "refuse"),
]


def train(state: TrainingState | None = None, **changes: Any) -> list[Any]:
    return list(fit(make_model(), make_splits(), make_options(**{"max_steps": 8, **changes}), resume_from=state))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_checkpoint(folder, checkpoints(train())[0])
    return folder


@pytest.mark.parametrize(("name", "value", "verdict"), CHANGES)
def test_a_changed_parameter_gets_its_verdict(run_folder: Path, name: str, value: Any, verdict: str) -> None:
    assert change_verdict(name) == verdict
    forked = read_fork(run_folder)
    state = checkpoints(train())[0].state
    for start, allowed in ((state, ("continue", "extend")), (forked, ("continue", "extend", "fork"))):
        if verdict in allowed:
            assert train(start, **{name: value})[0].resumed
        else:
            with pytest.raises(CheckpointError, match=rf"training\.{name} is") as caught:
                train(start, **{name: value})
            assert ("run.fork_from=OLD" in caught.value.remedy) == (verdict == "fork")


def test_the_documentation_says_the_same_of_every_option() -> None:
    rows = re.findall(r"^\| (`.*?) \| \*\*(\w+)\*\*", DOCUMENTATION.read_text(encoding="utf-8"), re.M)
    told = {pattern: verdict for names, verdict in rows for pattern in re.findall(r"`([a-z0-9_*]+)`", names)}
    for field in dataclasses.fields(TrainingOptions):
        verdicts = {verdict for pattern, verdict in told.items() if fnmatch(field.name, pattern)}
        assert (verdicts or {"fork"}) == {change_verdict(field.name)}, field.name


@pytest.mark.parametrize("name", ["model_code", "config", "tokenizer"])
def test_another_model_or_tokenizer_is_refused_by_a_fork_too(run_folder: Path, name: str) -> None:
    assert change_verdict(name) == "refuse"


def test_a_run_that_is_extended_equals_the_long_one_to_the_bit() -> None:
    flat = {"lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    short = checkpoints(train(max_steps=6, **flat))[-1].state
    extended, long = train(short, max_steps=12, **flat), train(max_steps=12, **flat)
    # The short run also ended with an evaluation, which the long one makes elsewhere: only weights are compared.
    ours, theirs = (checkpoints(records)[-1].state for records in (extended, long))
    assert all((ours.model[name] == theirs.model[name]).all() for name in theirs.model)


def test_a_fork_says_where_it_comes_from_and_what_changes(run_folder: Path) -> None:
    started = train(read_fork(run_folder), learning_rate=1e-3)[0]
    assert isinstance(started, Started)
    assert "changed: learning_rate 0.01 -> 0.001." in started.notes[0]
    assert str(run_folder) in started.notes[0]


def test_a_fork_without_changes_trains_the_same_weights(run_folder: Path) -> None:
    ours, theirs = checkpoints(train(read_fork(run_folder)))[-1], checkpoints(train())[-1]
    assert all((ours.state.model[name] == theirs.state.model[name]).all() for name in theirs.state.model)


def test_a_fork_with_another_order_starts_a_new_pass(run_folder: Path) -> None:
    records = train(read_fork(run_folder), seed=7)
    assert "a new pass" in records[0].notes[1]
    assert checkpoints(records)[-1].state.loop.position == 4


def test_a_run_without_checkpoints_cannot_be_forked(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        read_fork(tmp_path)


def test_a_fork_can_start_from_one_checkpoint(run_folder: Path) -> None:
    (folder,) = (run_folder / "checkpoints").iterdir()
    assert_same_state(read_fork(folder), read_fork(run_folder))
