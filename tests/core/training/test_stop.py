"""A Stop that comes while a record is being kept is answered with a checkpoint, as one in a step is."""

from __future__ import annotations

import signal

from tests.core.training.tiny import assert_same_state, checkpoints, make_model, make_options, make_splits
from transformer_foundry.core.training import Event, Progress, fit


def train_and_stop_at(step: int) -> list[Event]:
    """Press Stop while the progress record of ``step`` is being kept."""
    records: list[Event] = []
    options = make_options(logging_steps=1, save_steps=None, eval_steps=None)
    try:
        for record in fit(make_model(), make_splits(), options):
            records.append(record)
            if isinstance(record, Progress) and record.step == step:
                signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return records
    raise AssertionError("the Stop was lost")


def test_a_stop_while_a_record_is_kept_ends_with_a_checkpoint() -> None:
    last = checkpoints(train_and_stop_at(5))[-1]
    assert (last.step, last.reason) == (5, "interrupt")


def test_a_stopped_run_resumes_to_the_same_weights() -> None:
    options = make_options(logging_steps=1, save_steps=None, eval_steps=None)
    state = checkpoints(train_and_stop_at(5))[-1].state
    resumed = checkpoints(fit(make_model(), make_splits(), options, resume_from=state))[-1]
    assert_same_state(resumed.state, checkpoints(fit(make_model(), make_splits(), options))[-1].state)


def test_the_signal_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    train_and_stop_at(3)
    assert signal.getsignal(signal.SIGINT) == before
