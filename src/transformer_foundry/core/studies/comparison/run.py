"""Train every model of a comparison with every seed; finished trainings are not repeated."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.base.text import format_duration
from transformer_foundry.core.studies.comparison.candidates import Candidate
from transformer_foundry.core.studies.comparison.options import BenchmarkOptions
from transformer_foundry.core.system.memory import PeakMemory
from transformer_foundry.core.system.process import count_processes
from transformer_foundry.core.training.options import TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["CandidateResult", "compare_models"]

_log = logging.getLogger(__name__)

_NO_EFFECT = (
    "eval_steps",
    "eval_batches",
    "logging_steps",
    "num_samples",
    "save_steps",
    "save_minutes",
    "save_epochs",
)
"""Options that change what is logged or saved of a training, not its result."""

_SAMPLED_ROWS = 64
"""Rows from which the tokens of a row are estimated if spans are masked."""


@dataclass(frozen=True)
class CandidateResult:
    """The result of one training.

    Attributes:
        key: Digest of what it depends on: model, data, options, budget, seed.
        name: Name of the model.
        seed: Seed of the order of the data.
        parameter_count: Parameters of the model.
        steps: Updates it took.
        tokens: Tokens it saw.
        flops: Floating point operations of its matrix products.
        loss: Nats per target on the split that was not trained on; nan if training failed.
        bits_per_byte: Loss in bits per byte, for causal language models.
        accuracy: Share of targets that are predicted.
        split: Split of the measures: test, or validation if there is no test.
        tokens_per_second: Speed of training.
        seconds: Time of training.
        memory_gb: Peak memory; None if unknown.
        problem: Why training failed; empty otherwise.
        remaining: Trainings that come after it in the comparison that yielded it last; 0 for the last one.
    """

    key: str
    name: str
    seed: int
    parameter_count: int
    steps: int
    tokens: int
    flops: float
    loss: float
    bits_per_byte: float | None
    accuracy: float | None
    split: str
    tokens_per_second: float
    seconds: float
    memory_gb: float | None
    problem: str = ""
    remaining: int = 0


def compare_models(
    candidates: Sequence[Candidate],
    splits: TokenSplits,
    training: TrainingOptions,
    options: BenchmarkOptions,
    finished: Iterable[CandidateResult] = (),
) -> Iterator[CandidateResult]:
    """Train all candidates, seed by seed, and yield every result; an interrupted comparison has whole seeds.

    For a seed, candidates get the same batches in the same order, and different initial weights.

    Args:
        candidates: The models.
        splits: The tokens.
        training: Options of each training; its ``max_steps`` count if ``options`` give no budget.
        options: Seeds and budget.
        finished: Results of an earlier session; those of this comparison are yielded without training.
    """

    known = {result.key: result for result in finished}
    trainings = [
        (index, place, candidate, _key(candidate, place, splits, training, options, training.seed + index))
        for index in range(options.seeds)
        for place, candidate in enumerate(candidates)
    ]
    missing, done, began = sum(key not in known for *_, key in trainings), 0, time.monotonic()
    for position, (index, place, candidate, key) in enumerate(trainings, start=1):
        remaining = len(trainings) - position
        if key in known:
            yield dataclasses.replace(known[key], remaining=remaining)
            continue
        _log.info("Training %s, seed %d of %d ...", candidate.name, index + 1, options.seeds)
        result = _train(key, candidate, place, splits, training, options, training.seed + index)
        _log.info(_line(result, index, options.seeds))
        done += 1
        if done == len(candidates) < missing:
            left = missing - done
            _log.info(
                "Forecast: %s more for %d trainings.", format_duration((time.monotonic() - began) / done * left), left
            )
        yield dataclasses.replace(result, remaining=remaining)


def _train(
    key: str,
    candidate: Candidate,
    place: int,
    splits: TokenSplits,
    training: TrainingOptions,
    options: BenchmarkOptions,
    seed: int,
) -> CandidateResult:
    from transformer_foundry.core.evaluation import evaluate
    from transformer_foundry.core.system.precision import choose_precision
    from transformer_foundry.core.training import Progress, fit
    from transformer_foundry.core.training.monitoring.metrics import flops_per_token

    # Other weights for each candidate: the same model twice is then two draws, as two models are.
    adapter = candidate.build(splits, seed=1000 * (seed + 1) + place)
    planned = _options(adapter, splits, training, options, seed)
    precision = choose_precision(planned.device, planned.precision)
    memory = PeakMemory(precision.device.type)
    last: dict[str, float] = {}
    rates: list[tuple[float, float]] = []
    steps, problem = 0, ""
    try:
        for record in fit(adapter, splits, planned):
            if isinstance(record, Progress):
                rates.append((record.metrics["train/step_seconds"] * (record.step - steps), record.step - steps))
                last, steps = dict(record.metrics), record.step
    except TrainingError as err:
        problem = err.problem
    peak = memory.gigabytes()
    split = "test" if len(splits.test) else "validation"
    batch_size = planned.rows_per_evaluation_batch
    found = {} if problem else evaluate(adapter, splits, split, batch_size=batch_size, precision=precision)
    seconds, tokens = sum(rate for rate, _ in rates), int(last.get("train/tokens_seen", 0))
    return CandidateResult(
        key=key,
        name=candidate.name,
        seed=seed,
        parameter_count=sum(parameter.numel() for parameter in adapter.model.parameters()),
        steps=steps,
        tokens=tokens,
        flops=tokens * flops_per_token(adapter.model),
        loss=found.get("loss", math.nan),
        bits_per_byte=found.get("bits_per_byte"),
        accuracy=found.get("accuracy"),
        split=split,
        tokens_per_second=tokens / max(seconds, 1e-9),
        seconds=seconds,
        memory_gb=peak,
        problem=problem,
    )


def _options(
    adapter: Adapter, splits: TokenSplits, training: TrainingOptions, options: BenchmarkOptions, seed: int
) -> TrainingOptions:
    """Return the options of one training: the budget as steps, or as hours; nothing is saved or sampled."""
    from transformer_foundry.core.training.monitoring.metrics import flops_per_token

    changes: dict[str, Any] = {
        "seed": seed, "eval_steps": None, "num_samples": 0, "save_steps": None, "save_minutes": None,
        "save_epochs": False, "early_stopping_patience": None, "use_best": False,
    }  # fmt: skip
    tokens = options.tokens
    if options.flops is not None:
        tokens = options.flops / flops_per_token(adapter.model)
    if options.minutes is not None:
        changes |= {"max_hours": options.minutes / 60, "num_train_epochs": None}
    elif tokens is not None:
        of_a_step = _tokens_per_row(splits) * training.rows_per_batch() * training.batches_per_step(count_processes())
        changes |= {"max_steps": max(1, round(tokens / of_a_step)), "num_train_epochs": None, "max_hours": None}
    return dataclasses.replace(training, **changes)


def _tokens_per_row(splits: TokenSplits) -> float:
    """Return the mean number of tokens that ``train/tokens_seen`` counts for a row: of encoder and decoder.

    If the batches mask spans, the lengths of the rows do not say it: the first batches are counted.
    """
    from transformer_foundry.core.data.dataloading.batches import Batches, count_tokens

    train = splits.train
    if splits.task != "seq2seq_lm" or train.target_ids is not None:
        sides = [side for side in (train.input_ids, train.target_ids) if side is not None]
        return sum(float(side.offsets[-1] - side.offsets[0]) for side in sides) / max(1, len(train))
    batches = Batches(train, splits, batch_size=1)
    tried = range(min(_SAMPLED_ROWS, len(batches)))
    return sum(count_tokens(batches.batch(position)) for position in tried) / max(1, len(tried))


def _key(
    candidate: Candidate,
    place: int,
    splits: TokenSplits,
    training: TrainingOptions,
    options: BenchmarkOptions,
    seed: int,
) -> str:
    used = {name: value for name, value in dataclasses.asdict(training).items() if name not in _NO_EFFECT}
    budget = [options.tokens, options.flops, options.minutes]
    content: Mapping[str, Any] = {
        "member": candidate.identity, "place": place, "name": candidate.name, "data": splits.fingerprint,
        "training": used, "budget": budget, "seed": seed,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _line(result: CandidateResult, index: int, seeds: int) -> str:
    what = result.problem or f"{result.split} loss {result.loss:.4f} after {result.steps} steps"
    return f"{result.name}, seed {index + 1} of {seeds}: {what} ({result.seconds:.0f} s)."
