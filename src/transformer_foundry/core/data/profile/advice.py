"""Findings about prepared data: advice with a severity; none of them stops a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.data.corpus.text_quality import UNKNOWN_LANGUAGE
from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["DataFinding", "collect_findings"]

_MANY_UNKNOWN = 0.01
_MUCH_TRUNCATED = 0.2
_LITTLE_TEXT_TOKENS = 50_000
_FEW_ROWS = 20
_HARDLY_USED = 0.5
_IMBALANCED = 0.8
_MANY_DUPLICATES = 0.05
_MANY_PROBLEMS = 0.01
_OTHER_LANGUAGES = 0.1
_OTHER_LABELS = 0.1
_REPORTED_LANGUAGE = 0.01
_MAIN_LANGUAGE_KNOWN = 0.5


@dataclass(frozen=True)
class DataFinding:
    """A statement about the data, with the severity "info" or "warning"."""

    check: str
    severity: str
    message: str
    fix: str = ""


def collect_findings(splits: TokenSplits, profile: Mapping[str, Any]) -> list[DataFinding]:
    """Return the findings about ``splits``, warnings first.

    Args:
        splits: The prepared data.
        profile: ``splits``, ``vocabulary``, ``labels``, ``drift`` of ``profile_splits``.
    """
    findings = [
        *_find_in_texts(splits.texts),
        *_find_in_sizes(splits, profile["splits"]),
        *_find_in_vocabulary(profile["vocabulary"]),
        *_find_in_labels(profile["labels"]),
        *_find_drift(profile["drift"]),
        *(DataFinding("preparation", "info", note) for note in splits.notes),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "warning")


def _find_in_texts(texts: Mapping[str, Any]) -> Iterator[DataFinding]:
    if not texts:
        return
    documents = max(texts["documents"], 1)
    alike = texts["repeats"] + texts["near_duplicates"]
    if alike:
        message = f"{alike} of {documents} texts are equal or nearly equal to another one."
        severity = "warning" if alike > _MANY_DUPLICATES * documents else "info"
        yield DataFinding("duplicates", severity, message, "Set data.drop_near_duplicates=true to keep one of each.")
    if texts["near_leaks"] and not texts["dropped_duplicates"]:
        message = f"{texts['near_leaks']} training texts are nearly equal to one of a held-out split."
        yield DataFinding("leaks", "warning", message, "Set data.drop_near_duplicates=true, or results look too good.")
    for problem, found in texts["troubles"].items():
        message = (
            f"{found['texts']} of {texts['examined']} examined texts contain {problem}, such as {found['example']!r}."
        )
        severity = "warning" if found["share"] > _MANY_PROBLEMS else "info"
        fix = "Remove the markup." if problem == "HTML" else "Write the file again in UTF-8 from its source."
        yield DataFinding("markup" if problem == "HTML" else "encoding", severity, message, fix)
    yield from _find_languages(texts["languages"])


def _find_languages(languages: Mapping[str, float]) -> Iterator[DataFinding]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in languages.items() if share >= _REPORTED_LANGUAGE)
    known = {name: share for name, share in languages.items() if name != UNKNOWN_LANGUAGE}
    if (
        known
        and max(known.values()) > _MAIN_LANGUAGE_KNOWN
        and sum(known.values()) - max(known.values()) > _OTHER_LANGUAGES
    ):
        yield DataFinding(
            "language", "warning", f"The texts are in several languages: {shares}.", "Split them by language."
        )
    elif known:
        yield DataFinding("language", "info", f"Languages, by their function words: {shares}.")


def _find_in_sizes(splits: TokenSplits, described: Mapping[str, Mapping[str, Any]]) -> Iterator[DataFinding]:
    train = described["train"]
    if not splits.task.endswith("classification") and train["tokens"] < _LITTLE_TEXT_TOKENS:
        yield DataFinding(
            "amount", "warning", f"Only {train['tokens']} tokens to train on.", "Give more data in data.source."
        )
    if splits.train.is_packed(splits.task) and train["rows"] < 2:
        message = f"All training text is shorter than one row of {splits.max_length} tokens."
        yield DataFinding("amount", "warning", message, "Give more data in data.source, or lower data.max_length.")
    for name in ("validation", "test"):
        if 0 < described[name]["rows"] < _FEW_ROWS:
            message = f"The {name} split has only {described[name]['rows']} rows: its results are imprecise."
            yield DataFinding("split size", "warning", message, f"Raise data.{name}_share or give more data.")
    truncated = train["truncated_rows"] / max(train["rows"], 1)
    if truncated > _MUCH_TRUNCATED:
        message = f"{truncated:.0%} of the training rows are truncated to {splits.max_length} tokens."
        yield DataFinding("truncation", "warning", message, "Raise data.max_length if the model accepts longer rows.")


def _find_in_vocabulary(vocabulary: Mapping[str, Any]) -> Iterator[DataFinding]:
    if vocabulary["unknown_share"] > _MANY_UNKNOWN:
        message = f"{vocabulary['unknown_share']:.1%} of the tokens are unknown to the tokenizer."
        yield DataFinding("unknown tokens", "warning", message, "Export the model with a vocabulary of 256 or more.")
    if vocabulary["used"] < _HARDLY_USED * vocabulary["size"]:
        message = f"Only {vocabulary['used']} of {vocabulary['size']} tokens occur in the training text."
        yield DataFinding("vocabulary use", "info", message, "A smaller vocabulary is sufficient for this text.")


def _find_in_labels(labels: Mapping[str, Mapping[str, int]] | None) -> Iterator[DataFinding]:
    if labels is None:
        return
    counts = labels["train"]
    absent = [name for name, count in counts.items() if count == 0]
    if absent:
        message = f"No training example has the label {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}."
        yield DataFinding("labels", "warning", message, "Add examples, or remove the class.")
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / max(sum(counts.values()), 1)
    if share > _IMBALANCED:
        message = f"{share:.0%} of the training labels are {largest}."
        yield DataFinding("label balance", "warning", message, "Compare accuracy with majority_accuracy.")


def _find_drift(drift: Mapping[str, Any]) -> Iterator[DataFinding]:
    if drift["has_drifted"]:
        message = (
            f"Validation text differs from training text: {drift['token_divergence']:.3f} nats apart, "
            f"{drift['token_divergence_by_chance']:.3f} by chance."
        )
        yield DataFinding(
            "drift", "warning", message, "Check that both are from the same source; shuffle before splitting."
        )
    if (drift["label_distance"] or 0) > max(_OTHER_LABELS, 2 * (drift["label_distance_by_chance"] or 0)):
        message = f"{drift['label_distance']:.0%} of the validation labels would have to change to match training."
        yield DataFinding("label drift", "warning", message, "Split the data again, or evaluate each class separately.")
