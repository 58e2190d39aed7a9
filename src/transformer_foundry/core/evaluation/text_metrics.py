"""Metrics of generated texts against references: exact match, chrF, and those of installed libraries."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence

__all__ = ["chrf", "compare_texts", "exact_match"]

_LONGEST = 6
_BETA = 2.0
"""chrF2 of Popovic (2015, 2016): character n-grams up to six, recall weighs twice as much as precision."""


def compare_texts(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return ``exact_match`` and ``chrf``, in [0, 1]; with the extra "text" installed ``bleu`` and ``rouge_l`` too."""
    found = {"exact_match": exact_match(texts, references), "chrf": chrf(texts, references)}
    with contextlib.suppress(ImportError):
        import sacrebleu

        found["bleu"] = sacrebleu.corpus_bleu(list(texts), [list(references)]).score / 100
    with contextlib.suppress(ImportError):
        from rouge_score import rouge_scorer

        score = rouge_scorer.RougeScorer(["rougeL"]).score
        pairs = zip(references, texts, strict=True)
        found["rouge_l"] = sum(score(*pair)["rougeL"].fmeasure for pair in pairs) / max(1, len(texts))
    return found


def exact_match(texts: Sequence[str], references: Sequence[str]) -> float:
    """Return the share of texts that equal their reference except for white space, in [0, 1].

    Example:
        >>> exact_match(["a  b", "c"], ["a b", "d"])
        0.5
    """
    return sum(a.split() == b.split() for a, b in zip(texts, references, strict=True)) / max(1, len(texts))


def chrf(texts: Sequence[str], references: Sequence[str]) -> float:
    """Return chrF of a corpus, in [0, 1]: the F-score of character n-grams, white space left out.

    Counts are summed over the corpus; precision and recall are averaged over the orders that occur, as sacrebleu does.

    Example:
        >>> chrf(["abc"], ["abc"])
        1.0
    """
    scores = []
    for order in range(1, _LONGEST + 1):
        matched = written = expected = 0
        for text, reference in zip(texts, references, strict=True):
            found, wanted = _ngrams(text, order), _ngrams(reference, order)
            matched += (found & wanted).total()
            written += found.total()
            expected += wanted.total()
        if written and expected:
            scores.append((matched / written, matched / expected))
    if not scores:
        return float(exact_match(texts, references) == 1.0)
    precision = sum(score[0] for score in scores) / len(scores)
    recall = sum(score[1] for score in scores) / len(scores)
    if precision + recall == 0:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)


def _ngrams(text: str, order: int) -> Counter[str]:
    characters = "".join(text.split())
    return Counter(characters[start : start + order] for start in range(len(characters) - order + 1))
