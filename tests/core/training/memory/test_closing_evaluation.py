"""What follows training stays within its memory: evaluation, texts and error analysis of a large vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.training.memory.models import D, Model
from tests.core.training.tiny import Letters, make_splits
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.evaluation.assess import assess
from transformer_foundry.core.evaluation.error_analysis import analyze_errors
from transformer_foundry.core.evaluation.options import SampleOptions
from transformer_foundry.core.system.memory import PeakMemory
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.training import evaluation_savings
from transformer_foundry.core.training.checkpointing.state import MemoryDecision

CPU = choose_precision("cpu", "fp32")
VOCABULARY, ROWS = 50_000, 96
LOGITS_GB = ROWS * 12 * VOCABULARY * 4 / 1e9
"""Logits of one batch; the loss of all of them at once takes three times as much."""

CHUNKED = MemoryDecision(ROWS, chunked_loss=True, activation_checkpointing=False, budget_bytes=None)


class Pair(nn.Module):
    """An encoder-decoder: the mean of the source is added to what the decoder sees."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Model(1, vocab_size=VOCABULARY)
        self.source = nn.Embedding(VOCABULARY, D)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        assert decoder_input_ids is not None
        x = self.decoder.embedding(decoder_input_ids) + self.source(input_ids).mean(1, keepdim=True)
        return self.decoder.logits(self.decoder.run_blocks(x))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "causal_lm": lambda: Model(1, vocab_size=VOCABULARY),
    "masked_lm": lambda: Model(1, vocab_size=VOCABULARY),
    "seq2seq_lm": Pair,
}


def close(model: nn.Module, splits: TokenSplits, decision: MemoryDecision | None) -> tuple[dict[str, Any], float]:
    """Do what follows training; return evaluation and error analysis, and the growth of the process in GB."""
    peak = PeakMemory("cpu")
    savings = evaluation_savings(model, splits, CPU, decision).active
    evaluation, _ = assess(
        model, splits, Letters(),  # type: ignore[arg-type]
        step=1, precision=CPU, batch_size=ROWS, samples=SampleOptions(1, 2), seed=0, savings=savings,
    )  # fmt: skip
    errors = analyze_errors(model, splits, Letters(), batch_size=ROWS, precision=CPU, savings=savings)  # type: ignore[arg-type]
    used = peak.gigabytes()
    if used is None:
        pytest.skip("the peak of the process cannot be measured here")
    return {"evaluation": evaluation, "errors": errors}, used


@pytest.mark.parametrize("task", MODELS)
def test_what_follows_a_training_with_a_loss_in_chunks_never_holds_all_logits(task: str) -> None:
    torch.manual_seed(0)
    splits = dataclasses.replace(make_splits(task, train=4, validation=ROWS), vocab_size=VOCABULARY)
    model = MODELS[task]()
    results, used = close(model, splits, CHUNKED)
    assert used < 0.8 * LOGITS_GB
    plain, more = close(model, splits, None)
    assert more > 1.5 * LOGITS_GB
    assert numbers(results) == pytest.approx(numbers(plain), rel=1e-5)


def numbers(value: Any) -> list[float]:
    """Return all numbers in a result, in order."""
    if isinstance(value, dict | list):
        return [number for item in (value.values() if isinstance(value, dict) else value) for number in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def test_a_run_that_computed_its_loss_as_a_whole_is_evaluated_as_a_whole() -> None:
    whole = dataclasses.replace(CHUNKED, chunked_loss=False)
    for decision in (None, whole):
        assert not evaluation_savings(Model(), make_splits(), CPU, decision).is_any
