"""The profile of prepared data: counts, lengths, labels, examples of model inputs, baselines, findings."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from transformer_foundry.core.data.dataloading.batches import Batches
from transformer_foundry.core.data.profile.advice import collect_findings
from transformer_foundry.core.data.profile.drift import measure_drift
from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.files.provenance import CODE_VERSION, with_origin
from transformer_foundry.core.models.contract import IGNORE_INDEX

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["profile_origin", "profile_splits", "splits_table"]

_log = logging.getLogger(__name__)

_EXAMPLES = 3
_NUMBER_BINS = 30
_EXAMPLE_CHARACTERS = 300
_FILL_BATCH, _FILL_BATCHES = 16, 256
_COUNTED_TOKENS = 5_000_000  # enough to find the ids that occur
_TABLE_COLUMNS = ("documents", "rows", "tokens", "targets", "target_text_bytes", "truncated_rows", "fill")
_PERCENTILES = (5, 25, 50, 75, 95)


def profile_splits(splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return statistics of prepared data as values that ``json`` can write.

    Args:
        splits: The result of ``prepare_splits``.
        tokenizer: The tokenizer of ``splits``.

    Returns:
        ``source, task, fingerprint, max_length, texts, tokenizer, splits, vocabulary, labels, numbers, drift,
        baselines, examples, findings, made_from``. Losses are per target; shares are of 1. ``numbers`` describes the
        targets of a regression, with ``mean`` and ``std`` of the training split.
    """
    profile: dict[str, Any] = {
        "source": splits.source,
        "task": splits.task,
        "fingerprint": splits.fingerprint,
        "max_length": splits.max_length,
        "texts": splits.texts,
        "tokenizer": {
            "algorithm": tokenizer.algorithm,
            "vocab_size": tokenizer.vocab_size,
            "special_token_ids": {**asdict(tokenizer.special), "sentinels": list(tokenizer.special.sentinels)},
        },
        "splits": {name: _describe_split(split, splits) for name, split in splits.splits.items()},
        "vocabulary": _describe_vocabulary(splits, tokenizer),
        "labels": _describe_labels(splits),
        "numbers": _describe_numbers(splits),
        "drift": measure_drift(splits),
        "baselines": splits.baselines,
        "examples": _examples(splits, tokenizer),
    }
    profile["findings"] = [asdict(finding) for finding in collect_findings(splits, profile)]
    _log_profile(profile)
    return with_origin(profile, profile_origin(splits))


def profile_origin(splits: TokenSplits) -> dict[str, str | int]:
    """Return what the profile of ``splits`` is made from."""
    return {"data": splits.fingerprint, "tokenizer": splits.tokenizer, "code": CODE_VERSION}


def splits_table(profile: dict[str, Any]) -> pd.DataFrame:
    """Return a table of the splits: one row each, with documents, rows, tokens, targets, bytes and fill."""
    import pandas as pd

    rows = [
        {"split": name, **{key: split[key] for key in _TABLE_COLUMNS if key in split}}
        for name, split in profile["splits"].items()
    ]
    return pd.DataFrame(rows)


def _log_profile(profile: dict[str, Any]) -> None:
    """Log the size of the data and the findings."""
    counts = {name: (split["documents"], split["tokens"]) for name, split in profile["splits"].items()}
    sizes = ", ".join(f"{name} {documents} texts, {tokens} tokens" for name, (documents, tokens) in counts.items())
    _log.info("Data: %s (%s). %s.", profile["source"], profile["task"], sizes)
    for finding in profile["findings"]:
        _log.info("  %s: %s", finding["severity"], f"{finding['message']} {finding['fix']}".rstrip())
    if profile["texts"].get("template") and profile["examples"]:
        _log.info("  The first row as the model sees it: %r", profile["examples"][0]["input"])


def _describe_split(split: TokenSplit, splits: TokenSplits) -> dict[str, Any]:
    tokens = split.counts.get("tokens", 0)
    described: dict[str, Any] = {
        "documents": split.documents,
        "rows": len(split),
        "tokens": tokens,
        "targets": split.target_count,
        "target_text_bytes": split.text_bytes,
        "truncated_rows": split.counts.get("truncated_rows", 0),
        "truncated_tokens": split.counts.get("truncated_tokens", 0),
    }
    if len(split):
        lengths = split.input_ids.lengths()
        described["row_lengths"] = _spread(lengths)
        if split.is_packed(splits.task):
            described["fill"] = round(float(lengths.mean() / lengths.max()), 4)
            described["cut_documents"] = split.counts.get("cut_documents", 0)
        else:
            described["fill"] = round(_bucket_fill(split, splits), 4)
        if split.target_ids is not None:
            described["target_lengths"] = _spread(split.target_ids.lengths())
        if split.labels is None and split.text_bytes:
            described["bytes_per_token"] = round(split.text_bytes / max(split.target_count, 1), 3)
    return described


def _bucket_fill(split: TokenSplit, splits: TokenSplits) -> float:
    """Return the share of tokens that are not padding in batches of the training order."""
    batches = Batches(split, splits, batch_size=_FILL_BATCH, shuffle=True)
    sides = [side for side in (split.input_ids, split.target_ids) if side is not None]
    real = padded = 0
    for position in range(min(len(batches), _FILL_BATCHES)):
        for lengths in (side.lengths(batches.rows(position)) for side in sides):
            real, padded = real + int(lengths.sum()), padded + len(lengths) * int(lengths.max())
    return real / max(padded, 1)


def _spread(lengths: np.ndarray) -> dict[str, float]:
    spread = {f"p{share}": float(np.percentile(lengths, share)) for share in _PERCENTILES}
    return {"min": int(lengths.min()), **spread, "max": int(lengths.max()), "mean": round(float(lengths.mean()), 2)}


def _describe_vocabulary(splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, Any]:
    counts = np.zeros(splits.vocab_size, np.int64)
    for column in (splits.train.input_ids, splits.train.target_ids):
        if column is not None:
            counts += np.bincount(column.values[:_COUNTED_TOKENS], minlength=splits.vocab_size)
    unknown = 0 if tokenizer.unk_token_id is None else int(counts[tokenizer.unk_token_id])
    ordinary = np.setdiff1d(np.arange(splits.vocab_size), splits.special.ids())
    frequent = ordinary[np.argsort(-counts[ordinary], kind="stable")[:10]]
    return {
        "size": splits.vocab_size,
        "used": int((counts > 0).sum()),
        "unknown_share": round(unknown / max(int(counts.sum()), 1), 6),
        "most_frequent": [[tokenizer.token(int(number)), int(counts[number])] for number in frequent],
    }


def _describe_labels(splits: TokenSplits) -> dict[str, dict[str, int]] | None:
    if splits.label_names is None:
        return None
    balance = {}
    for name, split in splits.splits.items():
        labels = np.empty(0, np.int64) if split.labels is None else split.labels
        if labels.ndim == 2:
            labels = np.nonzero(labels == 1)[1]
        if split.token_labels is not None:
            labels = split.token_labels.values[split.token_labels.values != IGNORE_INDEX]
        counts = np.bincount(labels, minlength=len(splits.label_names))
        balance[name] = {label: int(count) for label, count in zip(splits.label_names, counts, strict=True)}
    return balance


def _describe_numbers(splits: TokenSplits) -> dict[str, Any] | None:
    """Return mean and standard deviation of the training numbers, and the numbers of each split in equal bins."""
    if splits.target_scale is None:
        return None
    numbers = {name: np.asarray(split.labels) for name, split in splits.splits.items() if split.labels is not None}
    edges = _bin_edges(np.concatenate(list(numbers.values())))
    mean, std = splits.target_scale
    described = {
        name: {
            "min": float(found.min()),
            "median": float(np.median(found)),
            "max": float(found.max()),
            "counts": np.histogram(found, edges)[0].tolist(),
        }
        for name, found in numbers.items()
        if len(found)
    }
    return {"mean": mean, "std": std, "edges": edges.tolist(), "splits": described}


def _bin_edges(numbers: np.ndarray) -> np.ndarray:
    """Return the edges of equal bins, fewer where floats are too coarse for as many between least and largest."""
    least, largest = float(numbers.min()), float(numbers.max())
    edges = np.unique(np.linspace(least / 2, largest / 2, _NUMBER_BINS + 1) * 2)  # the difference may overflow
    return (
        edges
        if len(edges) > 1 and least < largest
        else np.array([np.nextafter(least, -np.inf), np.nextafter(least, np.inf)])
    )


def _examples(splits: TokenSplits, tokenizer: Tokenizer) -> list[dict[str, str]]:
    """Return a few training rows as text: input and expected output, special tokens by name."""
    # The first row of packed prompts begins with a whole one.
    is_shuffled = not splits.texts.get("template")
    size = min(_EXAMPLES, len(splits.train))
    batch = Batches(splits.train, splits, batch_size=size, seed=0, shuffle=is_shuffled).batch(0)
    examples = []
    for row in range(len(batch["input_ids"])):
        seen = batch["input_ids"][row][batch["attention_mask"][row] == 1]
        labels = batch["labels"][row]
        names = splits.label_names or ()
        if splits.task == "regression":
            expected = f"{float(labels):g}"
        elif splits.task == "multi_label_classification":
            expected = ", ".join(name for name, flag in zip(names, labels.tolist(), strict=True) if flag == 1)
        elif labels.ndim == 0:
            expected = names[int(labels)]
        elif splits.task == "token_classification":
            expected = " ".join(names[label] for label in labels[labels != IGNORE_INDEX].tolist())
        else:
            expected = _show(tokenizer, labels[labels != IGNORE_INDEX].tolist())
        examples.append({"input": _show(tokenizer, seen.tolist()), "expected": expected})
    return examples


def _show(tokenizer: Tokenizer, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=False)
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[:_EXAMPLE_CHARACTERS] + " ..."
