"""Train every member of a comparison with every seed; what is finished is not done again."""

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
from transformer_foundry.core.experiments.comparison.models import Member
from transformer_foundry.core.experiments.comparison.options import BenchmarkOptions
from transformer_foundry.core.system.memory import PeakMemory
from transformer_foundry.core.training.options import TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.models.adapter import Adapter

__all__ = ["MemberResult", "compare_models"]

_log = logging.getLogger(__name__)

_ONLY_SEEN = ("eval_steps", "eval_batches", "logging_steps", "num_samples", "save_steps", "save_minutes", "save_epochs")
"""Options that change what is seen of a training, not its result."""

_TRIED_ROWS = 64
"""Rows from which tokens are estimated where spans are hidden."""


@dataclass(frozen=True)
class MemberResult:
    """One training.

    Attributes:
        key: What it depends on, as a digest: model, data, options, budget, seed.
        name: The member.
        seed: Of the order of the data.
        parameter_count: Parameters of the model.
        steps: Updates it took.
        tokens: Tokens it saw.
        flops: Floating point operations of its matrix products.
        loss: Nats per target on the split that was not trained on; nan if training failed.
        bits_per_byte: For causal language models.
        accuracy: Share of targets predicted.
        split: On which it was measured: test, or validation where there is no test.
        tokens_per_second: While training.
        seconds: While training.
        memory_gb: Peak, where the system tells.
        problem: Why training failed; empty otherwise.
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


def compare_models(
    members: Sequence[Member],
    splits: TokenSplits,
    training: TrainingOptions,
    options: BenchmarkOptions,
    finished: Iterable[MemberResult] = (),
) -> Iterator[MemberResult]:
    """Train all members, seed by seed, and yield every result; an interrupted comparison has whole seeds.

    Members have the same batches in the same order for a seed, and initial weights of their own.

    Args:
        members: What is compared.
        splits: The tokens.
        training: How; ``max_steps`` where ``options`` give no budget.
        options: Seeds and budget.
        finished: Results of an earlier session; those that belong to this comparison are yielded as they are.
    """

    known = {result.key: result for result in finished}
    trainings = [
        (index, place, member, _key(member, place, splits, training, options, training.seed + index))
        for index in range(options.seeds)
        for place, member in enumerate(members)
    ]
    missing, done, began = sum(key not in known for *_, key in trainings), 0, time.monotonic()
    for index, place, member, key in trainings:
        if key in known:
            yield known[key]
            continue
        _log.info("Training %s, seed %d of %d ...", member.name, index + 1, options.seeds)
        result = _train(key, member, place, splits, training, options, training.seed + index)
        _log.info(_line(result, index, options.seeds))
        done += 1
        if done == len(members) < missing:
            left = missing - done
            _log.info(
                "Forecast: %s more for %d trainings.", format_duration((time.monotonic() - began) / done * left), left
            )
        yield result


def _train(
    key: str,
    member: Member,
    place: int,
    splits: TokenSplits,
    training: TrainingOptions,
    options: BenchmarkOptions,
    seed: int,
) -> MemberResult:
    from transformer_foundry.core.evaluation import evaluate
    from transformer_foundry.core.system.precision import choose_precision
    from transformer_foundry.core.training import Progress, fit
    from transformer_foundry.core.training.monitoring.metrics import flops_per_token

    # Other weights for each member: the same model twice is then two draws, as two models are.
    adapter = member.build(splits, seed=1000 * (seed + 1) + place)
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
    return MemberResult(
        key=key,
        name=member.name,
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
        of_a_step = _tokens_per_row(splits) * training.rows_per_batch() * training.gradient_accumulation_steps
        changes |= {"max_steps": max(1, round(tokens / of_a_step)), "num_train_epochs": None, "max_hours": None}
    return dataclasses.replace(training, **changes)


def _tokens_per_row(splits: TokenSplits) -> float:
    """Return the tokens of a row that ``train/tokens_seen`` counts, on the average: those of encoder and decoder.

    Where the batches hide spans, the rows themselves do not tell what goes in: the first batches do.
    """
    from transformer_foundry.core.data.dataloading.batches import Batches, count_tokens

    train = splits.train
    if splits.task != "seq2seq_lm" or train.target_ids is not None:
        sides = [side for side in (train.input_ids, train.target_ids) if side is not None]
        return sum(float(side.offsets[-1] - side.offsets[0]) for side in sides) / max(1, len(train))
    batches = Batches(train, splits, batch_size=1)
    tried = range(min(_TRIED_ROWS, len(batches)))
    return sum(count_tokens(batches.batch(position)) for position in tried) / max(1, len(tried))


def _key(
    member: Member, place: int, splits: TokenSplits, training: TrainingOptions, options: BenchmarkOptions, seed: int
) -> str:
    used = {name: value for name, value in dataclasses.asdict(training).items() if name not in _ONLY_SEEN}
    budget = [options.tokens, options.flops, options.minutes]
    content: Mapping[str, Any] = {
        "member": member.identity, "place": place, "name": member.name, "data": splits.fingerprint,
        "training": used, "budget": budget, "seed": seed,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _line(result: MemberResult, index: int, seeds: int) -> str:
    what = result.problem or f"{result.split} loss {result.loss:.4f} after {result.steps} steps"
    return f"{result.name}, seed {index + 1} of {seeds}: {what} ({result.seconds:.0f} s)."
