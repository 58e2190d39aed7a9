"""Roles of columns by the words of their names: parts of a prompt, answer, text, label, metadata."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_foundry.core.data.columns.cells import text_of

__all__ = [
    "LABEL_NAMES",
    "NAMELESS",
    "RATING_NAMES",
    "TEXT_NAMES",
    "TOKEN_NAMES",
    "holds_paths",
    "is_discrete",
    "is_running_text",
    "is_text_beside",
    "named",
    "prompt_rank",
    "role_of",
    "text_name",
    "words_of",
]

# Role -> words that name it, in the order in which the parts of a prompt are read. The last word of a name decides:
# "question_type" is a type, "user_input" an input.
_ROLES = {
    "system": ("system", "persona", "preamble"),
    "instruction": ("instruction", "instructions", "prompt", "prompts", "directive"),
    "context": (
        *("context", "contexts", "passage", "passages", "paragraph", "paragraphs", "background", "evidence"),
        *("knowledge", "article", "document", "dialogue", "dialog", "schema"),
    ),
    "input": ("input", "inputs", "source", "src", "user", "human", "post"),
    "question": ("question", "questions", "query", "request", "problem"),
    "choices": ("choices", "options", "candidates", "choice", "option", "candidate"),
    "answer": (
        *("answer", "answers", "output", "outputs", "response", "responses", "completion", "completions", "target"),
        *("targets", "tgt", "reply", "solution", "sql", "summary", "highlights", "chosen", "preferred", "assistant"),
    ),
    "rejected": ("rejected", "dispreferred"),
}
# A name with one of these words is that of a wrong answer, which is never learned: "incorrect_answers".
_NEGATIONS = frozenset(
    (
        *("rejected", "dispreferred", "unchosen", "wrong", "incorrect", "bad", "false", "fake", "invalid", "worse"),
        *("worst", "not", "losing", "hallucinated"),
        *("distractor", "distractors", "negative", "negatives", "neg", "negs", "loser"),
    )
)
_NEGATIVE_NOUNS = frozenset(("rejected", "distractor", "distractors", "negative", "negatives", "neg", "negs", "loser"))
_WORDS = {word: role for role, words in _ROLES.items() for word in words}
_RANKS = {role: rank for rank, role in enumerate(_ROLES)}
_LETTERS = {"q": "question", "a": "answer"}  # as whole names of one table: text_a is a side of a pair
_GENERIC = frozenset(("text", "texts", "str", "string", "content", "body", "column", "field", "value", "message"))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")

NAMELESS = re.compile(r"column_\d+")
"""The name of a column in a table without a header."""

TEXT_NAMES = (
    *("text", "content", "document", "sentence", "body", "article", "review", "comment", "message", "story"),
    *("messages", "conversations"),
)
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "emotion", "y")

RATING_NAMES = (
    "stars",
    "star",
    "rating",
    "ratings",
    "score",
    "polarity",
    "grade",
    "quality",
    "overall",
)  # labels if their values are classes
TOKEN_NAMES = ("tokens", "words", "word", "token")

_MOST_CLASSES = 20  # of the rows that columns are chosen from
_ROWS_PER_CLASS = 4
_LONGEST_CLASS_WORDS = 4
_SHORT_TEXT_WORDS = 3  # on average, most of them in lower case, unlike names and dates
_ABOUT_TEXTS = frozenset(
    ("title", "titles", "name", "names", "headline", "author", "date", "time", "url", "id", "tags")
)
_DATE_WORDS = frozenset(
    (
        *("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
        *("january", "february", "march", "april", "june", "july", "august", "september", "october", "november"),
        *("december", "mon", "tue", "wed", "thu", "fri", "sat", "sun", "monday", "tuesday", "wednesday", "thursday"),
        *("friday", "saturday", "sunday", "am", "pm", "at", "of", "st", "nd", "rd", "th", "t", "z"),
        *("utc", "gmt", "pst", "pdt", "est", "edt", "cst", "cdt", "mst", "mdt", "cet", "cest", "bst", "ist", "jst"),
    )
)
_LETTERS_OF_DATE = re.compile(r"[^\W\d_]+")
_MOST_DATES = 0.9  # share of the cells
_PATH = re.compile(  # of a file; with blanks only if it is whole
    r"(?!\w+://)(?:\S+|(?:\.{0,2}|\w:)[/\\][^\n]+)\.(?:txt|md|json|xml|html?|rtf|pdf|docx?|csv|tsv|wav|mp3|flac|ogg|m4a"
    r"|jpe?g|png|gif|bmp|tiff?|webp|mp4|avi|mov|npy|pt)",
    re.IGNORECASE,
)
_LONGEST_PATH = 300
_FEW_WORDS = 5  # on average; names, titles, addresses and categories have fewer


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case.

    Example:
        >>> words_of("reviewText_2")
        ['review', 'text', '2']
    """
    return [word.lower() for word in _WORD.findall(name)]


@functools.cache
def role_of(name: str, beside: tuple[str, ...] = ()) -> str | None:
    """Return the role that the name of a column means: a key of the table of roles, or None.

    Args:
        name: The name.
        beside: All names of the table: Q and A are question and answer beside each other, but not beside B.

    Example:
        >>> role_of("expected_output"), role_of("answers.text"), role_of("question_type")
        ('answer', 'answer', None)
        >>> role_of("incorrect_answers"), role_of("A"), role_of("A", ("Q", "A"))
        ('rejected', None, 'answer')
    """
    words = words_of(name)
    if words and words[0] in _LETTERS and len(words) == 1:
        letters = {other.strip().lower() for other in beside}
        return _LETTERS[words[0]] if letters.issuperset(_LETTERS) and "b" not in letters else None
    if _is_negated(words):
        return "rejected"
    if len(words) > 1 and _WORDS.get(words[-2]) == "choices" and len(words[-1]) == 1:
        words.pop()  # option1, choice_a
    while words and words[-1] in _GENERIC:
        words.pop()
    head = _WORDS.get(words[-1]) if words else None
    return "system" if head and "system" in map(_WORDS.get, words) else head  # "system_prompt" is a system text


def _is_negated(words: Sequence[str]) -> bool:
    """Return whether words name a wrong answer: wrong_answer_2, distractor1; not negative_sentiment, bad_words."""
    bare = [word for word in words if word not in _GENERIC and not word.isdecimal() and len(word) > 1]
    kept = [word for word in bare if word not in _NEGATIONS]
    is_about_answers = not kept or any(word in _WORDS for word in kept)
    return bare != kept and (is_about_answers or bare[-1] in _NEGATIVE_NOUNS)


def prompt_rank(role: str | None) -> int:
    """Return the place of a role in a prompt."""
    return _RANKS.get(role or "", len(_RANKS))


def named(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the column with the first of the known names, in any case."""
    lowered = {name.lower(): name for name in reversed(names)} | {name: name for name in names}
    return next((lowered[name] for name in known if name in lowered), None)


def text_name(names: Sequence[str]) -> str | None:
    """Return the column with the name of a text, else the only one whose last word is one, such as ``reviewText``."""
    known = named(names, TEXT_NAMES)
    if known is not None:
        return known
    found = [name for name in names if (words_of(name) or [""])[-1] in TEXT_NAMES]
    return found[0] if len(found) == 1 else None


def is_discrete(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether a column has few different short values, as classes have."""
    values = [text_of(row.get(name)) for row in rows if row.get(name) is not None]
    distinct = set(values)
    if not values or any(len(value.split()) > _LONGEST_CLASS_WORDS for value in distinct):
        return False
    return len(distinct) <= _MOST_CLASSES and len(distinct) * _ROWS_PER_CLASS <= max(len(values), 2 * _ROWS_PER_CLASS)


def is_running_text(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether a column has texts of several words, and not names, titles, dates or addresses."""
    texts = [text_of(row.get(name)) for row in rows if isinstance(row.get(name), str | list)]
    filled = [text for text in texts if text.strip()]
    if not filled or sum(len(text.split()) for text in filled) / len(filled) < _FEW_WORDS:
        return False
    return sum(map(_is_date, filled)) < _MOST_DATES * len(filled)


def _is_date(text: str) -> bool:
    """Return whether a text consists of numbers and the words of dates and times."""
    words = _LETTERS_OF_DATE.findall(text.lower())
    return any(map(str.isdigit, text)) and all(word in _DATE_WORDS for word in words)


def holds_paths(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether all cells of a column are paths of files, such as ``texts/0.txt``, so no texts."""
    filled = [text for row in rows if (text := text_of(row.get(name)).strip())]
    return bool(filled) and all(len(text) < _LONGEST_PATH and _PATH.fullmatch(text) for text in filled)


def is_text_beside(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Return whether a column has running text, or different short texts such as hints and reasons."""
    if is_running_text(rows, name):
        return True
    if is_discrete(rows, name) or _ABOUT_TEXTS.intersection(words_of(name)[-1:]):
        return False
    texts = [text_of(row.get(name)).split() for row in rows if isinstance(row.get(name), str | list)]
    filled = [words for words in texts if words]
    later = [word for words in filled for word in words[1:] if word[0].isalpha()]
    is_lower = sum(word[0].islower() for word in later) > len(later) / 2
    return is_lower and sum(map(len, filled)) >= _SHORT_TEXT_WORDS * len(filled)
