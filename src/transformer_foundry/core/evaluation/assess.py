"""The final evaluation of a trained model, and its comparison with the baselines of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.evaluation.options import SampleOptions
from transformer_foundry.core.files.provenance import CODE_VERSION, Origin, settings_text, with_origin

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.system.precision import Precision

__all__ = ["assess", "compare_with_baselines", "evaluation_origin"]

MAX_COMPARED_TEXTS = 512
"""Texts of a split that a sequence-to-sequence model generates for the comparison with their references."""

_BASELINES = {
    "unigram_loss": ("loss", "token frequencies"),
    "bigram_loss": ("loss", "a bigram model"),
    "prior_loss": ("loss", "class frequencies"),
    "majority_accuracy": ("accuracy", "the most frequent class"),
    "naive_bayes_accuracy": ("accuracy", "naive Bayes"),
    "every_label_micro_f1": ("micro_f1", "giving every label"),
    "naive_bayes_micro_f1": ("micro_f1", "naive Bayes for each label"),
    "mean_loss": ("loss", "the mean of the training numbers"),
    "mean_rmse": ("rmse", "the mean of the training numbers"),
    "median_mae": ("mae", "the median of the training numbers"),
}
"""Baseline -> the metric it is compared with, and its description in messages."""

_LOWER_IS_BETTER = frozenset(("loss", "rmse", "mae"))


def assess(
    adapter: nn.Module,
    splits: TokenSplits,
    tokenizer: Tokenizer,
    *,
    step: int,
    precision: Precision,
    batch_size: int,
    samples: SampleOptions,
    seed: int,
    made_from: Origin | None = None,
    savings: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure a trained model on the validation and test splits and generate samples.

    Args:
        adapter: The model with its trained weights; moved to the device of ``precision``.
        splits: The data it was trained on.
        tokenizer: Turns ids into text.
        step: The step whose weights ``adapter`` holds.
        precision: Device and number format.
        batch_size: Rows of a forward pass.
        samples: Number, length and randomness of the samples.
        seed: Seed of the samples.
        made_from: What the weights are (``TrainingState.made_from``).
        savings: Returns the context of the evaluation, which saves memory (``core.training.MemorySavings.active``).

    Returns:
        The evaluation (``step``, ``validation``, ``test``, ``baselines``, ``comparisons``) and the samples (``step``,
        ``task``, ``samples``), both ready for json, with what they are made from. Losses are in nats per target.
    """
    from transformer_foundry.core.evaluation.evaluation_loop import evaluate
    from transformer_foundry.core.evaluation.samples import measure_texts, sample_split

    adapter.to(precision.device)
    measured: dict[str, dict[str, float]] = {}
    for name in ("validation", "test"):
        with savings():
            metrics = evaluate(adapter, splits, name, batch_size=batch_size, precision=precision)
            texts = measure_texts(adapter, tokenizer, splits, name, max_texts=MAX_COMPARED_TEXTS, precision=precision)
        measured[name] = metrics | texts
    evaluation = {
        "step": step,
        **measured,
        "baselines": splits.baselines,
        "comparisons": compare_with_baselines(measured["validation"], splits.baselines),
    }
    lines = sample_split(adapter, tokenizer, splits, samples, seed=seed)
    origin = evaluation_origin(made_from or {}, precision=precision, batch_size=batch_size, samples=samples, seed=seed)
    sampled = {"step": step, "task": splits.task, "samples": list(lines)}
    return with_origin(evaluation, origin), with_origin(sampled, origin)


def evaluation_origin(
    made_from: Origin,
    *,
    precision: Precision,
    batch_size: int,
    samples: SampleOptions | None = None,
    seed: int | None = None,
) -> dict[str, str | int]:
    """Return what an evaluation with these settings is made from.

    Args:
        made_from: What the weights are (``TrainingState.made_from``).
        precision: Device and number format.
        batch_size: Rows of a forward pass.
        samples: Number, length and randomness of the samples; None if there are none.
        seed: Seed of the samples.
    """
    settings = {"device": precision.device.type, "precision": precision.name, "rows_of_a_batch": batch_size}
    settings |= {} if samples is None else {**asdict(samples), "seed": seed}
    return {**made_from, "parameters": settings_text(settings), "code": CODE_VERSION}


def compare_with_baselines(metrics: Mapping[str, float], baselines: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return one comparison for each baseline that ``metrics`` has the metric of.

    Example:
        >>> compare_with_baselines({"loss": 2.0}, {"bigram_loss": 2.5})[0]["sentence"]
        'loss 2.000 beats a bigram model (2.500)'
    """
    comparisons = []
    for baseline, value in baselines.items():
        metric, description = _BASELINES.get(baseline, (None, ""))
        if metric is None or metric not in metrics:
            continue
        reached = metrics[metric]
        is_beaten = reached < value if metric in _LOWER_IS_BETTER else reached > value
        verb = "beats" if is_beaten else "does not beat"
        comparisons.append(
            {
                "metric": metric,
                "value": reached,
                "baseline": baseline,
                "baseline_value": value,
                "is_beaten": is_beaten,
                "sentence": f"{metric} {reached:.3f} {verb} {description} ({value:.3f})",
            }
        )
    return comparisons


def baselines_of(comparisons: Iterable[Mapping[str, Any]], *, is_beaten: bool) -> list[str]:
    """Return what the baselines are that were beaten, or were not, each once.

    Example:
        >>> baselines_of(compare_with_baselines({"loss": 2.0}, {"bigram_loss": 2.5}), is_beaten=True)
        ['a bigram model']
    """
    names = [str(item.get("baseline")) for item in comparisons if item.get("is_beaten") is is_beaten]
    return list(dict.fromkeys(_BASELINES[name][1] for name in names if name in _BASELINES))
