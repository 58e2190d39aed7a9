"""Findings about prepared data: advice with a severity; none of them stops a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.base.text import counted
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
_SIGNIFICANT = 0.001
_OUTLIER_DEVIATIONS = 10
_FIXES = {
    "Python's form of bytes": ("encoding", "Write the decoded text, such as value.decode(), instead of str(value)."),
    "terminal color codes": ("encoding", "Remove the codes."),
    "control characters": ("encoding", "Remove them."),
    "HTML": ("markup", "Remove the markup."),
    "marks of the end of a document": ("marks", "Write each document as a row of a table (jsonl) without the marks."),
}
_REPORTED_LANGUAGE = 0.01
_MAIN_LANGUAGE_KNOWN = 0.5
_NAMED_LANGUAGES = 0.2  # share of the texts; fewer may be wrong guesses about moves, notes or code
_RARE, _FEW_OF_A_CLASS, _ENOUGH_LABELS = 0.02, 10, 100  # share of the labels, labels of a class, labels in all
_MOST_RARE_CLASSES = 3  # more are the tail of many classes, which is usual


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
        *_find_in_labels(profile["labels"], splits.task),
        *_find_in_numbers(profile["numbers"]),
        *_find_drift(profile["drift"]),
        *(DataFinding("preparation", "info", note) for note in splits.notes),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "warning")


def _find_in_texts(texts: Mapping[str, Any]) -> Iterator[DataFinding]:
    if not texts:
        return
    yield from (DataFinding("columns", "warning", message) for message in texts.get("warnings", ()))
    documents = max(texts["documents"], 1)
    alike = texts["repeats"] + texts["near_duplicates"]
    if alike:
        message = f"{alike} of {documents} texts are equal or nearly equal to another one."
        severity = "warning" if alike > _MANY_DUPLICATES * documents else "info"
        yield DataFinding("duplicates", severity, message, "Set data.drop_near_duplicates=true to keep one of each.")
    clashes = texts.get("contradictions", 0)
    if clashes:
        message = f"{clashes} of {documents} texts occur with different labels: at most one of them can be right."
        severity = "warning" if clashes > _MANY_PROBLEMS * documents else "info"
        yield DataFinding("contradictions", severity, message, "Keep each text once, with its right label.")
    if texts["near_leaks"] and not texts["dropped_duplicates"]:
        message = f"{texts['near_leaks']} training texts are nearly equal to one of a held-out split."
        yield DataFinding("leaks", "warning", message, "Set data.drop_near_duplicates=true, or results look too good.")
    for problem, found in texts["troubles"].items():
        message = (
            f"{found['texts']} of {texts['examined']} examined texts contain {problem}, such as {found['example']!r}."
        )
        severity = "warning" if found["share"] > _MANY_PROBLEMS else "info"
        check, fix = _FIXES.get(problem, ("encoding", "Write the file again in UTF-8 from its source."))
        yield DataFinding(check, severity, message, fix)
    yield from _find_languages(texts["languages"], texts["examined"], texts.get("languages_by", "function words"))


def _find_languages(languages: Mapping[str, float], examined: int, guessed_by: str) -> Iterator[DataFinding]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in languages.items() if share >= _REPORTED_LANGUAGE)
    known = {name: share for name, share in languages.items() if name != UNKNOWN_LANGUAGE}
    # Scattered wrong guesses are of many languages; a second language is one with a share and texts of its own.
    second = sorted(known.values())[-2] if len(known) > 1 else 0.0
    is_mixed = second > _OTHER_LANGUAGES and second * examined >= _FEW_ROWS
    if is_mixed and max(known.values()) > _MAIN_LANGUAGE_KNOWN:
        fix = "If that is not intended, keep the texts of one language."
        yield DataFinding("language", "warning", f"The texts are in several languages: {shares}.", fix)
    elif sum(known.values()) >= _NAMED_LANGUAGES:
        yield DataFinding("language", "info", f"Languages, by {guessed_by}: {shares}.")


def _find_in_sizes(splits: TokenSplits, described: Mapping[str, Mapping[str, Any]]) -> Iterator[DataFinding]:
    train = described["train"]
    if splits.task.endswith("_lm") and train["tokens"] < _LITTLE_TEXT_TOKENS:
        yield DataFinding(
            "amount", "warning", f"Only {train['tokens']} tokens to train on.", "Give more data in data.source."
        )
    if splits.train.is_packed(splits.task) and train["rows"] < 2:
        message = f"All training text is shorter than one row of {splits.max_length} tokens."
        yield DataFinding("amount", "warning", message, "Give more data in data.source, or lower data.max_length.")
    for name in ("validation", "test"):
        if 0 < described[name]["rows"] < _FEW_ROWS:
            message = f"The {name} split has only {counted(described[name]['rows'], 'row')}: its results are imprecise."
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


def _find_in_labels(labels: Mapping[str, Mapping[str, int]] | None, task: str) -> Iterator[DataFinding]:
    if labels is None:
        return
    counts = labels["train"]
    absent = [name for name, count in counts.items() if count == 0]
    if absent:
        message = f"No training example has the label {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}."
        yield DataFinding("labels", "warning", message, "Add examples, or remove the class.")
    if task == "multi_label_classification":
        return  # a frequent label excludes no other
    total = sum(counts.values())
    rare = [name for name, count in counts.items() if 0 < count <= min(_FEW_OF_A_CLASS, _RARE * total)]
    if task == "sequence_classification" and total >= _ENOUGH_LABELS and 0 < len(rare) <= _MOST_RARE_CLASSES:
        found = ", ".join(f"{name} ({counted(counts[name], 'row')})" for name in rare)
        message = f"Of {total} training labels, very few are {found}: a class, or rows without one?"
        yield DataFinding("rare class", "warning", message, "Remove the rows if it is no class.")
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / max(sum(counts.values()), 1)
    if share > _IMBALANCED:
        message = f"{share:.0%} of the training labels are {largest}."
        # Most words are in no span, which is the usual case; of texts in classes it is a warning.
        severity = "info" if task == "token_classification" else "warning"
        yield DataFinding("label balance", severity, message, "Compare accuracy with majority_accuracy.")


def _find_in_numbers(numbers: Mapping[str, Any] | None) -> Iterator[DataFinding]:
    if numbers is None:
        return
    train = numbers["splits"]["train"]
    if train["min"] == train["max"]:
        message = f"All training texts have the number {train['min']:g}: there is nothing to learn."
        yield DataFinding("numbers", "warning", message, "Set data.label_column to the column of the numbers.")
    for name in ("min", "max"):
        distance = abs(train[name] - train["median"]) / max(numbers["std"], 1e-12)
        if distance > _OUTLIER_DEVIATIONS:
            message = (
                f"A training text has the number {train[name]:g}, {distance:.0f} standard deviations from the median:"
                " its squared error outweighs the others."
            )
            yield DataFinding("numbers", "warning", message, "Correct it, or learn the logarithm of the numbers.")


def _find_drift(drift: Mapping[str, Any]) -> Iterator[DataFinding]:
    if drift["has_drifted"]:
        message = (
            f"Validation text differs from training text: {drift['token_divergence']:.3f} nats apart, "
            f"{drift['token_divergence_by_chance']:.3f} by chance."
        )
        yield DataFinding(
            "drift", "warning", message, "Check that both are from the same source; shuffle before splitting."
        )
    if drift["label_distance"] is None:
        return
    if drift["label_distance"] > _OTHER_LABELS and drift["label_p_value"] < _SIGNIFICANT:
        message = (
            f"{drift['label_distance']:.0%} of the validation labels would have to change to match training,"
            f" {drift['label_distance_by_chance']:.0%} by chance."
        )
        yield DataFinding("label drift", "warning", message, "Split the data again, or evaluate each class separately.")
