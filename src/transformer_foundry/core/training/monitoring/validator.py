"""What is seen of a model while it trains: losses, texts and samples, from random streams of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torch import nn

from transformer_foundry.core.data.dataloading.batches import evaluation_batches
from transformer_foundry.core.evaluation.evaluation_loop import evaluate
from transformer_foundry.core.evaluation.samples import TextDecoder, measure_texts, sample_texts
from transformer_foundry.core.system.distributed import ProcessGroup
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.random_state import preserve_random
from transformer_foundry.core.training.memory.savings import MemorySavings
from transformer_foundry.core.training.options import TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["Validator"]

_TRIED_BATCHES = 2
"""Batches of an evaluation from which its length is forecast."""

_COMPARED_TEXTS = 32
"""Texts that an evaluation while training writes; all of a test split are written when training is done."""


class Validator:
    """Evaluates a model on its validation split and lets it write; nothing of training changes by it."""

    def __init__(
        self,
        adapter: nn.Module,
        splits: TokenSplits,
        options: TrainingOptions,
        precision: Precision,
        tokenizer: TextDecoder | None,
        processes: ProcessGroup,
        savings: MemorySavings,
    ) -> None:
        self._adapter, self._splits, self._options = adapter, splits, options
        self._precision, self._tokenizer, self._processes = precision, tokenizer, processes
        self._savings = savings

    def validate(self, step: int) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return the metrics ``eval/...`` and the samples of ``step``."""
        began = time.perf_counter()
        with preserve_random(self._precision.device):
            with self._savings.active():
                found = evaluate(
                    self._adapter,
                    self._splits,
                    batch_size=self._options.rows_per_evaluation_batch,
                    max_batches=self._options.eval_batches,
                    precision=self._precision,
                    processes=self._processes,
                )
            found |= self._measure_texts()
            samples = self._sample(step)
        metrics = {f"eval/{name}": value for name, value in found.items() if name != "targets"}
        return {**metrics, "eval/seconds": time.perf_counter() - began}, samples

    def expected_seconds(self) -> float:
        """Return about how long an evaluation takes, by making a small part of one; 0 if there are none."""
        batches = evaluation_batches(self._splits, batch_size=self._options.rows_per_evaluation_batch)
        if batches is None:
            return 0.0
        count = min(len(batches), self._options.eval_batches or len(batches))
        tried = min(_TRIED_BATCHES, count)
        with preserve_random(self._precision.device):
            for most in (1, tried):  # the first pass is slower than those after it
                began = time.perf_counter()
                with self._savings.active():
                    evaluate(
                        self._adapter,
                        self._splits,
                        batch_size=self._options.rows_per_evaluation_batch,
                        max_batches=most * self._processes.world_size,
                        precision=self._precision,
                        processes=self._processes,
                    )
            written = time.perf_counter()
            self._measure_texts()
            self._sample(0)
        count = -(-count // self._processes.world_size)
        return (written - began) / tried * count + time.perf_counter() - written

    def _measure_texts(self) -> dict[str, float]:
        if self._tokenizer is None or self._options.num_samples == 0:
            return {}
        return measure_texts(
            self._adapter, self._tokenizer, self._splits, max_texts=_COMPARED_TEXTS, precision=self._precision
        )

    def _sample(self, step: int) -> tuple[str, ...]:
        batches = evaluation_batches(self._splits, batch_size=max(1, self._options.num_samples))
        if self._tokenizer is None or batches is None:
            return ()
        return sample_texts(
            self._adapter,
            self._tokenizer,
            self._splits.task,
            batches.batch(0),
            self._options,
            seed=self._options.seed + step,
            max_length=self._splits.max_length,
            label_names=self._splits.label_names,
        )
