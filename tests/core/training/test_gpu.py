"""Training on a real GPU: interrupted and resumed, out of memory, within a memory of 12 GB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.training.memory.models import LanguageModel
from tests.core.training.tiny import (
    SPECIAL,
    Letters,
    assert_same_state,
    checkpoints,
    history,
    make_model,
    make_options,
    make_splits,
    run,
)
from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenized.memmap import RaggedArray
from transformer_foundry.core.training import Checkpoint, Event, Progress, Started, TrainingOptions, fit

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

COLAB_BYTES = 12 * 10**9


@pytest.fixture
def whole_memory() -> Iterator[None]:
    """Give the memory back that a test has kept from torch."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def leave_12_gb() -> None:
    """Let torch have as much memory as Colab's free GPU has."""
    torch.cuda.set_per_process_memory_fraction(COLAB_BYTES / torch.cuda.get_device_properties(0).total_memory)


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification"])
def test_every_task_learns_on_a_gpu(task: str) -> None:
    records = run(make_model(task), make_splits(task), device="cuda", max_steps=200)
    losses = [record.metrics["train/loss"] for record in records if isinstance(record, Progress)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_run_that_is_resumed_equals_one_that_is_not_to_the_bit(precision: str) -> None:
    options = make_options(device="cuda", precision=precision, max_steps=20, deterministic=True)
    whole = list(fit(make_model(), make_splits(), options, tokenizer=Letters()))
    middle = next(entry for entry in checkpoints(whole) if entry.step == 8)
    rest = list(fit(make_model(), make_splits(), options, tokenizer=Letters(), resume_from=middle.state))
    assert history(rest) == [entry for entry in history(whole) if entry[0] > middle.step]
    assert_same_state(checkpoints(rest)[-1].state, checkpoints(whole)[-1].state)


def test_a_run_of_a_cpu_resumes_on_a_gpu() -> None:
    begun = checkpoints(run())[0].state
    records = list(fit(make_model(), make_splits(), make_options(device="cuda"), resume_from=begun))
    assert isinstance(records[0], Started)
    assert any("cpu" in note and "cuda" in note for note in records[0].notes), records[0].notes
    assert checkpoints(records)[-1].step == 12


def test_a_state_is_complete_though_training_continues_beside_the_copy() -> None:
    options = make_options(device="cuda", max_steps=6, save_steps=1, eval_steps=None)
    model = LanguageModel(4096, 256, blocks=4, heads=4, dropout=0.0, length=12)
    states, expected = [], []
    for record in fit(model, make_splits(), options):
        if isinstance(record, Checkpoint):
            states.append(record.state)
            expected.append({name: value.cpu() for name, value in model.state_dict().items()})
    # Each was made before the next step began to move the weights, and is compared after the last.
    for state, weights in zip(states, expected, strict=True):
        assert all(torch.equal(state.model[name], weights[name]) for name in state.model), state.step


def make_language(vocab_size: int, length: int, rows: int) -> TokenSplits:
    random = np.random.default_rng(0)
    splits = {
        name: TokenSplit(
            name, RaggedArray.from_rows([random.integers(4, vocab_size, length).tolist() for _ in range(count)])
        )
        for name, count in (("train", rows), ("validation", 4), ("test", 1))
    }
    return TokenSplits(
        **splits, task="causal_lm", vocab_size=vocab_size, max_length=length, fingerprint="0" * 64, special=SPECIAL
    )


def begin_gpt_2_small(**changes: Any) -> Iterator[Event]:
    model = LanguageModel(50257, 768, blocks=12, heads=12, length=1024)
    options = TrainingOptions(max_steps=2, device="cuda", eval_steps=None, logging_steps=1, save_steps=None, **changes)
    return iter(fit(model, make_language(50257, 1024, 192), options))


@pytest.mark.usefixtures("whole_memory")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_model_of_124m_parameters_trains_within_12_gb(precision: str) -> None:
    leave_12_gb()
    records = begin_gpt_2_small(per_device_train_batch_size="auto", memory_budget_gb=12, precision=precision)
    assert checkpoints(records)[-1].step == 2
    assert torch.cuda.max_memory_reserved() <= COLAB_BYTES


@pytest.mark.usefixtures("whole_memory")
def test_a_step_that_runs_out_of_memory_is_computed_in_halves(caplog: pytest.LogCaptureFixture) -> None:
    records = begin_gpt_2_small(per_device_train_batch_size=32, chunked_loss="off", activation_checkpointing="off")
    next(records)
    leave_12_gb()  # as if somebody else took memory after the plan was made
    assert checkpoints(records)[-1].step == 2
    assert "Memory ran out with micro-batches of 32" in caplog.text


@pytest.mark.usefixtures("whole_memory")
def test_the_loss_is_computed_whole_where_memory_suffices() -> None:
    started = next(begin_gpt_2_small(per_device_train_batch_size=1))
    assert isinstance(started, Started)
    assert not any("chunks" in note for note in started.notes), started.notes
