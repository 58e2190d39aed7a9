"""What is in the data: counts, lengths, balance, examples as the model sees them, baselines, and findings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from transformer_foundry.core.data.batches import IGNORED, Batches
from transformer_foundry.core.data.splits import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenizers import Tokenizer

__all__ = ["Finding", "profile_splits"]

_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 300
_COUNTED_TOKENS = 5_000_000  # enough to know which ids occur
_MANY_UNKNOWN = 0.01
_MUCH_TRUNCATED = 0.2
_LITTLE_TEXT_TOKENS = 50_000
_FEW_ROWS = 20
_HARDLY_USED = 0.5
_LOPSIDED = 0.8
_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Finding:
    """Something the user may want to know or to change; advice, never an obstacle."""

    check: str
    severity: str
    message: str
    fix: str = ""


def profile_splits(splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, Any]:
    """Describe prepared data in plain values that ``json`` can write.

    Args:
        splits: What ``prepare_splits`` made.
        tokenizer: What it was made with.

    Returns:
        ``source, task, fingerprint, max_length, tokenizer, splits, vocabulary, labels, baselines, examples, findings``.
        Losses are in nats per target token; shares are of 1.
    """
    described = {name: _describe_split(split, splits) for name, split in splits.splits.items()}
    vocabulary = _describe_vocabulary(splits, tokenizer)
    labels = _describe_labels(splits)
    findings = _find(splits, described, vocabulary, labels)
    return {
        "source": splits.source,
        "task": splits.task,
        "fingerprint": splits.fingerprint,
        "max_length": splits.max_length,
        "tokenizer": {
            "algorithm": tokenizer.algorithm,
            "vocab_size": tokenizer.vocab_size,
            "special_token_ids": {**asdict(tokenizer.special), "sentinels": list(tokenizer.special.sentinels)},
        },
        "splits": described,
        "vocabulary": vocabulary,
        "labels": labels,
        "baselines": splits.baselines,
        "examples": _examples(splits, tokenizer),
        "findings": [asdict(finding) for finding in findings],
    }


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
        described["fill"] = round(float(lengths.mean() / splits.max_length), 4)
        if split.target_ids is not None:
            described["target_lengths"] = _spread(split.target_ids.lengths())
        if split.labels is None and split.text_bytes:
            described["bytes_per_token"] = round(split.text_bytes / max(split.target_count, 1), 3)
    return described


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
        counts = np.bincount(labels, minlength=len(splits.label_names))
        balance[name] = {label: int(count) for label, count in zip(splits.label_names, counts, strict=True)}
    return balance


def _examples(splits: TokenSplits, tokenizer: Tokenizer) -> list[dict[str, str]]:
    """Return a few training rows as text: what goes in and what is expected, special tokens by name."""
    batch = Batches(splits.train, splits, batch_size=min(_EXAMPLES, len(splits.train)), seed=0, shuffle=True).batch(0)
    examples = []
    for row in range(len(batch["input_ids"])):
        seen = batch["input_ids"][row][batch["attention_mask"][row] == 1]
        labels = batch["labels"][row]
        names = splits.label_names or ()
        if labels.ndim == 0:
            expected = names[int(labels)]
        elif splits.task == "token_classification":
            expected = " ".join(names[label] for label in labels[labels != IGNORED].tolist())
        else:
            expected = _show(tokenizer, labels[labels != IGNORED].tolist())
        examples.append({"input": _show(tokenizer, seen.tolist()), "expected": expected})
    return examples


def _show(tokenizer: Tokenizer, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=False)
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[:_EXAMPLE_CHARACTERS] + " ..."


def _find(
    splits: TokenSplits,
    described: dict[str, dict[str, Any]],
    vocabulary: dict[str, Any],
    labels: dict[str, dict[str, int]] | None,
) -> list[Finding]:
    findings = [Finding("preparation", "info", note) for note in splits.notes]
    train = described["train"]
    if not splits.task.endswith("classification") and train["tokens"] < _LITTLE_TEXT_TOKENS:
        findings.append(
            Finding(
                "amount", "warning", f"Only {train['tokens']} tokens to train on.", "Give more data in data.source."
            )
        )
    for name in ("validation", "test"):
        if 0 < described[name]["rows"] < _FEW_ROWS:
            message = f"The {name} split has only {described[name]['rows']} rows: its numbers are rough."
            findings.append(Finding("split size", "warning", message, f"Raise data.{name}_share or give more data."))
    truncated = train["truncated_rows"] / max(train["rows"], 1)
    if truncated > _MUCH_TRUNCATED:
        message = f"{truncated:.0%} of the training rows are cut to {splits.max_length} tokens."
        findings.append(Finding("truncation", "warning", message, "Raise data.max_length if the model takes more."))
    if vocabulary["unknown_share"] > _MANY_UNKNOWN:
        message = f"{vocabulary['unknown_share']:.1%} of the tokens are unknown to the tokenizer."
        findings.append(
            Finding("unknown tokens", "warning", message, "Export the model with a vocabulary of 256 or more.")
        )
    if vocabulary["used"] < _HARDLY_USED * vocabulary["size"]:
        message = f"Only {vocabulary['used']} of {vocabulary['size']} tokens occur in the training text."
        findings.append(Finding("vocabulary use", "info", message, "A smaller vocabulary would do for this text."))
    return [*findings, *_find_in_labels(labels)]


def _find_in_labels(labels: dict[str, dict[str, int]] | None) -> list[Finding]:
    if labels is None:
        return []
    findings = []
    counts = labels["train"]
    absent = [name for name, count in counts.items() if count == 0]
    if absent:
        message = f"No training text has the label {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}."
        findings.append(Finding("labels", "warning", message, "Add examples or drop the class."))
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / max(sum(counts.values()), 1)
    if share > _LOPSIDED:
        message = f"{share:.0%} of the training texts have the label {largest}."
        findings.append(Finding("label balance", "warning", message, "Compare accuracy with majority_accuracy."))
    return findings
