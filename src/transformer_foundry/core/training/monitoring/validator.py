"""Evaluations and samples of a model while it trains."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from transformer_foundry.core.data.dataloading.batches import evaluation_batches
from transformer_foundry.core.evaluation.assess import MAX_COMPARED_TEXTS
from transformer_foundry.core.evaluation.error_analysis.predictions import MAX_EXAMPLES, is_analyzed
from transformer_foundry.core.evaluation.evaluation_loop import evaluate
from transformer_foundry.core.evaluation.options import SampleOptions
from transformer_foundry.core.evaluation.samples import TextDecoder, measure_texts, sample_split
from transformer_foundry.core.system.distributed import ProcessGroup
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import preserve_random
from transformer_foundry.core.training.memory.savings import MemorySavings

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["Validator", "closing_evaluations"]

_TIMED_BATCHES = 2
"""Batches of an evaluation from which its duration is estimated."""

_COMPARED_TEXTS = 32
"""Texts that an evaluation while training generates; after training all of a test split are."""


def closing_evaluations(splits: TokenSplits, *, batch_size: int, max_batches: int | None, world_size: int = 1) -> float:
    """Return how many evaluations of a run the final one and the error analysis take; 0 without validation data.

    One process evaluates both splits whole, and generates more texts. Where a batch and a text differ in time, the
    larger ratio counts: the estimate is rather too high.

    Args:
        splits: The data.
        batch_size: Rows of a forward pass.
        max_batches: Batches of an evaluation of the run; None is the whole split.
        world_size: Processes that share an evaluation of the run.
    """
    rows = len(splits.validation), len(splits.test)
    if not rows[0]:
        return 0.0
    batches = sum(math.ceil(count / batch_size) for count in rows)
    if is_analyzed(splits):
        batches += math.ceil(min(rows[0], MAX_EXAMPLES) / batch_size)
    whole = math.ceil(rows[0] / batch_size)
    ratio = batches / math.ceil(min(whole, max_batches or whole) / world_size)
    if splits.task != "seq2seq_lm":
        return ratio
    texts = sum(min(count, MAX_COMPARED_TEXTS) for count in rows)
    return max(ratio, texts / min(rows[0], _COMPARED_TEXTS))


@dataclass(frozen=True)
class Validator:
    """Evaluates a model on the validation split and generates samples, without an effect on training.

    Attributes:
        tokenizer: Turns ids into text; without one there are no samples.
        batch_size: Rows of a forward pass.
        max_batches: At most this many batches; None takes the whole split.
        seed: Seed of the samples; the step is added.
    """

    adapter: nn.Module
    splits: TokenSplits
    precision: Precision
    savings: MemorySavings
    processes: ProcessGroup
    tokenizer: TextDecoder | None
    batch_size: int
    max_batches: int | None
    samples: SampleOptions
    seed: int

    def validate(self, step: int) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return the metrics ``eval/...`` and the samples of ``step``."""
        start = time.perf_counter()
        with preserve_random(self.precision.device):
            found = self.evaluate(self.max_batches) | self._measure_texts()
            samples = self._sample(step)
        metrics = {f"eval/{name}": value for name, value in found.items() if name != "targets"}
        return {**metrics, "eval/seconds": time.perf_counter() - start}, samples

    def estimate_seconds(self) -> float:
        """Return about how long an evaluation takes, from a few of its batches; 0 without validation data."""
        batches = evaluation_batches(self.splits, batch_size=self.batch_size)
        if batches is None:
            return 0.0
        count = min(len(batches), self.max_batches or len(batches))
        timed = min(_TIMED_BATCHES, count)
        with preserve_random(self.precision.device):
            self.evaluate(self.processes.world_size)  # the first pass is slower than those after it
            start = time.perf_counter()
            self.evaluate(timed * self.processes.world_size)
            evaluated = time.perf_counter()
            self._measure_texts()
            self._sample(0)
        per_process = -(-count // self.processes.world_size)
        return (evaluated - start) / timed * per_process + time.perf_counter() - evaluated

    def evaluate(self, max_batches: int | None) -> dict[str, float]:
        """Return the metrics of the validation split, of at most ``max_batches`` of its batches."""
        with self.savings.active():
            return evaluate(
                self.adapter,
                self.splits,
                batch_size=self.batch_size,
                max_batches=max_batches,
                precision=self.precision,
                processes=self.processes,
            )

    def _measure_texts(self) -> dict[str, float]:
        if self.tokenizer is None or self.samples.num_samples == 0:
            return {}
        with self.savings.active():
            return measure_texts(
                self.adapter, self.tokenizer, self.splits, max_texts=_COMPARED_TEXTS, precision=self.precision
            )

    def _sample(self, step: int) -> tuple[str, ...]:
        if self.tokenizer is None:
            return ()
        return sample_split(self.adapter, self.tokenizer, self.splits, self.samples, seed=self.seed + step)
