"""Which of two columns of text is the source of an encoder-decoder, and which its target: what their names say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import text_of
from transformer_foundry.core.data.columns.roles import NAMELESS, is_discrete, role_of, words_of
from transformer_foundry.core.data.document import Columns

__all__ = ["direct_pair", "is_written_from", "warn_of_languages"]

_LONG = (
    "article",
    "body",
    "content",
    "text",
    "document",
    "story",
    "dialogue",
    "transcript",
    "paper",
    "review",
    "report",
)
_WRITTEN_FROM = (
    (_LONG, ("abstract", "summary", "headline", "title", "tldr", "highlight")),
    (("abstract",), ("title", "headline")),
    (
        ("noisy", "corrupted", "original", "raw", "erroneous", "misspelled", "informal", "ocr", "dirty", "typo"),
        ("clean", "cleaned", "corrected", "correct", "correction", "fixed", "normalized", "formal", "edited"),
    ),
    (("original",), ("translation", "translated", "paraphrase", "paraphrased", "rewritten", "simplified", "revised")),
    (("complex", "normal"), ("simple", "simplified")),
)
"""Words of a source and words of what is usually written from it."""

_CODE = re.compile(r"[a-z]{2,3}([-_][a-z]{2,4})?", re.IGNORECASE)
"""A language, such as de, eng or zh-CN."""
_LANGUAGES = frozenset(
    (
        *("english", "french", "german", "spanish", "italian", "portuguese", "dutch", "russian", "chinese", "japanese"),
        *("korean", "arabic", "hindi", "turkish", "polish", "ukrainian", "czech", "greek", "hebrew", "vietnamese"),
        *(
            "swedish",
            "danish",
            "norwegian",
            "finnish",
            "hungarian",
            "romanian",
            "latin",
            "urdu",
            "bengali",
            "indonesian",
        ),
    )
)
_LANGUAGE_WORDS, _TARGET_WORDS = frozenset(("lang", "language", "locale")), frozenset(("target", "tgt", "trg", "to"))
_SIDES = frozenset(("1", "2", "a", "b", "x", "y", "0", "first", "second", "left", "right"))
_GIVEN = ("instruction", "context", "input", "question")


def direct_pair(one: str, other: str, source: str) -> tuple[str, str]:
    """Return two columns as source and target.

    Args:
        one: The first of the table.
        other: The second.
        source: Name of the table in messages.

    Raises:
        DataError: If their names do not say it: learned in the wrong direction, a model writes errors or long texts.
    """
    found = [pair for pair in ((one, other), (other, one)) if is_written_from(*pair)]
    if len(found) == 1:
        return found[0]
    if NAMELESS.fullmatch(one) or (_is_side(one) and _is_side(other)):
        return one, other
    raise DataError(
        f"{source} has two columns of text, {one} and {other}, whose names do not say which is written from the other.",
        "Expected names such as source and target, or text and summary.",
        f"Set data.text_column={one},data.target_column={other}, or data.text_column={other},data.target_column={one}.",
    )


def warn_of_languages(rows: Sequence[Mapping[str, Any]], left: Sequence[str], chosen: Columns) -> list[str]:
    """Return a sentence if a column that is not read says in which of several languages the target is."""
    if chosen.target is None or chosen.template is None:
        return []
    for name in left:
        words = set(words_of(name))
        is_named = bool(words & _LANGUAGE_WORDS) and bool(words & _TARGET_WORDS) and is_discrete(rows, name)
        found = sorted({text_of(row.get(name)).strip() for row in rows} - {""})
        if is_named and len(found) > 1:
            return [
                f"The targets are in several languages (column {name}: {short_list(found, 4)}), which the model is not"
                f" told: data.template='to {{{name}}}: {chosen.template}' tells it.".replace("\n", "\\n")
            ]
    return []


def _is_side(name: str) -> bool:
    """Return whether a name is a language or a numbered side: of these the first is the source by custom."""
    words = words_of(name)
    is_numbered = bool(words) and words[-1] in _SIDES
    return is_numbered or bool(_LANGUAGES.intersection(words)) or bool(_CODE.fullmatch(name.rsplit(".", 1)[-1]))


def is_written_from(source: str, target: str) -> bool:
    """Return whether the names say that one is the source and the other its target.

    Example:
        >>> is_written_from("News Articles", "Summaries"), is_written_from("pos", "neg")
        (True, False)
    """
    first, second = role_of(source), role_of(target)
    if (second == "answer") != (first == "answer"):
        return second == "answer"
    if (first in _GIVEN) != (second in _GIVEN):
        return first in _GIVEN
    given, written = _singular(source), _singular(target)
    return any(given.intersection(sources) and written.intersection(targets) for sources, targets in _WRITTEN_FROM)


def _singular(name: str) -> frozenset[str]:
    """Return the words of a name in the singular."""
    return frozenset(re.sub("ie$", "y", word.removesuffix("s")) if len(word) > 3 else word for word in words_of(name))
