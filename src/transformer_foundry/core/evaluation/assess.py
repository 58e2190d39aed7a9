"""How good a trained model has become, beside what can be reached without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["assess", "compare_with_baselines"]

MAX_COMPARED_TEXTS = 512
"""Texts of a split that a sequence-to-sequence model writes to be compared with their references."""

_BASELINES = {
    "unigram_loss": ("loss", "token frequencies"),
    "bigram_loss": ("loss", "a bigram model"),
    "prior_loss": ("loss", "class frequencies"),
    "majority_accuracy": ("accuracy", "the most frequent class"),
    "naive_bayes_accuracy": ("accuracy", "naive Bayes"),
}
"""Baseline -> the metric it is compared with, and its name in words."""


def assess(
    adapter: nn.Module, splits: TokenSplits, tokenizer: Tokenizer, options: TrainingOptions, *, step: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure a trained model on the validation and test splits and let it write.

    Args:
        adapter: The model with its trained weights; moved to the device of training.
        splits: The data it was trained on.
        tokenizer: Turns ids into text.
        options: Batch size, device, precision and samples.
        step: The step whose weights ``adapter`` holds.

    Returns:
        The evaluation (``step``, ``validation``, ``test``, ``baselines``, ``comparisons``) and the samples (``step``,
        ``task``, ``samples``), both ready for json. Losses are in nats per target.
    """
    from transformer_foundry.core.evaluation.evaluation_loop import evaluate
    from transformer_foundry.core.evaluation.samples import measure_texts
    from transformer_foundry.core.system.precision import choose_precision

    precision = choose_precision(options.device, options.precision)
    adapter.to(precision.device)
    batch_size = options.rows_per_evaluation_batch
    measured = {
        name: evaluate(adapter, splits, name, batch_size=batch_size, precision=precision)
        for name in ("validation", "test")
    }
    for name, metrics in measured.items():
        metrics |= measure_texts(adapter, tokenizer, splits, name, max_texts=MAX_COMPARED_TEXTS, precision=precision)
    evaluation = {
        "step": step,
        **measured,
        "baselines": splits.baselines,
        "comparisons": compare_with_baselines(measured["validation"], splits.baselines),
    }
    return evaluation, {"step": step, "task": splits.task, "samples": _sample(adapter, splits, tokenizer, options)}


def compare_with_baselines(metrics: Mapping[str, float], baselines: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return one comparison for each baseline that ``metrics`` has the metric of.

    Example:
        >>> compare_with_baselines({"loss": 2.0}, {"bigram_loss": 2.5})[0]["sentence"]
        'loss 2.000 beats a bigram model (2.500)'
    """
    comparisons = []
    for baseline, value in baselines.items():
        metric, words = _BASELINES.get(baseline, (None, ""))
        if metric is None or metric not in metrics:
            continue
        reached = metrics[metric]
        is_beaten = reached < value if metric == "loss" else reached > value
        verb = "beats" if is_beaten else "does not beat"
        comparisons.append(
            {
                "metric": metric,
                "value": reached,
                "baseline": baseline,
                "baseline_value": value,
                "is_beaten": is_beaten,
                "sentence": f"{metric} {reached:.3f} {verb} {words} ({value:.3f})",
            }
        )
    return comparisons


def _sample(adapter: nn.Module, splits: TokenSplits, tokenizer: Tokenizer, options: TrainingOptions) -> list[str]:
    from transformer_foundry.core.data.dataloading.batches import evaluation_batches
    from transformer_foundry.core.evaluation.samples import sample_texts

    batches = evaluation_batches(splits, batch_size=max(1, options.num_samples))
    if batches is None:
        return []
    return list(
        sample_texts(
            adapter,
            tokenizer,
            splits.task,
            batches.batch(0),
            options,
            seed=options.seed,
            max_length=splits.max_length,
            label_names=splits.label_names,
        )
    )
