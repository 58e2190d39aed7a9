"""The memory plan within ``fit``."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import TinyTransformer, checkpoints, make_model, make_options, make_splits, run
from transformer_foundry.core.base.errors import ModelError, TrainingError
from transformer_foundry.core.training import Started, TrainingState, fit
from transformer_foundry.core.training.memory import batch_size


def notes_of(records: list[Any]) -> str:
    assert isinstance(records[0], Started)
    return " ".join(records[0].notes)


def weights_of(records: list[Any]) -> Tensor:
    return checkpoints(records)[-1].state.model["embedding.weight"]


def test_the_forecast_is_shown_before_training() -> None:
    assert "GB: batch 4 x accumulation 1" in notes_of(run())


@pytest.mark.parametrize("saving", ["chunked_loss", "activation_checkpointing"])
def test_a_saving_that_is_demanded_changes_no_weight(saving: str) -> None:
    changes = {"max_steps": 20, "eval_steps": 10}
    plain, saved = (run(TinyTransformer(dropout=0.0), **changes, **{saving: value}) for value in ("off", "on"))
    torch.testing.assert_close(weights_of(saved), weights_of(plain), rtol=0, atol=1e-5)
    assert "not used" not in notes_of(saved) or saving == "activation_checkpointing"


def test_large_logits_are_chunked_without_being_asked() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(400_000, 4), nn.Linear(4, 400_000, bias=False)

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return self.head(self.embedding(input_ids))

    splits = dataclasses.replace(make_splits(), vocab_size=400_000)
    assert "loss in chunks" in notes_of(run(Wide(), splits, max_steps=1, eval_steps=None))
    assert "loss in chunks" not in notes_of(run(Wide(), splits, max_steps=1, eval_steps=None, chunked_loss="off"))


def test_a_batch_of_automatic_size_gives_what_a_given_one_does() -> None:
    changes = {"max_steps": 8, "eval_steps": None}
    given = run(TinyTransformer(dropout=0.0), **changes, per_device_train_batch_size=8)
    chosen = run(
        TinyTransformer(dropout=0.0), **changes, per_device_train_batch_size="auto", total_train_batch_size=8,
        memory_budget_gb=100.0,
    )  # fmt: skip
    assert torch.equal(weights_of(chosen), weights_of(given))


def test_a_budget_that_nothing_fits_is_refused_before_the_first_step() -> None:
    with pytest.raises(TrainingError, match=r"needs \d+\.\d+ GB of 0\.01") as caught:
        run(memory_budget_gb=0.01)
    assert "memory_budget_gb" in caught.value.remedy


class Hungry(TinyTransformer):
    """Runs out of memory, as torch does, with more rows than it can take, once it is armed."""

    def __init__(self, rows: int) -> None:
        super().__init__(dropout=0.0)
        self.most_rows, self.is_armed = rows, False

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        if self.is_armed and self.training and len(input_ids) > self.most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(input_ids)


def train_hungry(rows: int, resume_from: Any = None) -> list[Any]:
    model = Hungry(rows)
    stream = fit(model, make_splits(), make_options(max_steps=8, eval_steps=None), resume_from=resume_from)
    records: list[Any] = [next(stream)]
    vars(model)["is_armed"] = True
    return [*records, *stream]


def test_memory_that_runs_out_halves_the_micro_batch_and_loses_nothing() -> None:
    plain, hungry = train_hungry(100), train_hungry(1)
    torch.testing.assert_close(weights_of(hungry), weights_of(plain), rtol=0, atol=1e-5)
    state = checkpoints(hungry)[-1].state
    assert state.decisions.memory.rows == 1
    assert state.loop.step == 8


def test_a_run_resumes_with_the_micro_batch_that_fitted() -> None:
    hungry = train_hungry(2)
    again = train_hungry(2, resume_from=checkpoints(hungry)[0].state)
    assert "batch 2 x accumulation 2" in notes_of(again)
    assert torch.equal(weights_of(again), weights_of(hungry))


def test_memory_for_not_even_one_row_ends_training_with_advice() -> None:
    with pytest.raises(TrainingError, match="micro-batches of one row") as caught:
        train_hungry(0)
    assert "activation_checkpointing" in caught.value.remedy


def test_an_error_that_is_not_about_memory_is_not_swallowed() -> None:
    class Broken(TinyTransformer):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return nn.functional.linear(super().forward(input_ids), torch.ones(3, 5))

    with pytest.raises(ModelError, match=r"test_planning.py line \d+ .*shapes cannot be multiplied"):
        run(Broken())


def test_a_saving_that_is_demanded_in_vain_is_explained() -> None:
    records = run(make_model("sequence_classification"), make_splits("sequence_classification"), chunked_loss="on")
    assert "Chunked loss: not used, because the task sequence_classification has no logits" in notes_of(records)


def resume(state: TrainingState, **changes: Any) -> list[Any]:
    model = TinyTransformer(dropout=0.0)
    return list(fit(model, make_splits(), make_options(max_steps=8, **changes), resume_from=state))


def test_an_explicit_option_overrides_the_plan_of_the_run() -> None:
    state = checkpoints(run(TinyTransformer(dropout=0.0), max_steps=4, chunked_loss="on"))[-1].state
    assert "loss in chunks" in notes_of(resume(state))
    assert "loss in chunks" not in notes_of(resume(state, chunked_loss="off"))


def test_a_run_of_automatic_size_resumes_with_its_plan_whatever_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"per_device_train_batch_size": "auto", "total_train_batch_size": 8}
    state = checkpoints(run(TinyTransformer(dropout=0.0), max_steps=4, **changes))[-1].state
    state.decisions.memory = dataclasses.replace(state.decisions.memory, rows=3)
    monkeypatch.setattr(batch_size, "available_bytes", lambda: 77 * 10**9)
    assert "batch 3 x accumulation 3" in notes_of(resume(state, **changes))


def test_another_budget_makes_another_plan() -> None:
    state = checkpoints(run(TinyTransformer(dropout=0.0), max_steps=4, memory_budget_gb=50.0))[-1].state
    state.decisions.memory = dataclasses.replace(state.decisions.memory, rows=2)
    assert "batch 2 x" in notes_of(resume(state, memory_budget_gb=50.0))
    assert "batch 4 x" in notes_of(resume(state, memory_budget_gb=60.0))
