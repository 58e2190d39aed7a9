"""Choices in columns of their own, such as A, B, C and D, or option1 and option2, and the column that answers them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.data.columns.cells import average_length, text_of
from transformer_foundry.core.data.columns.roles import role_of, words_of

__all__ = ["Choices", "find_choices", "warn_of_unmarked"]

Rows = Sequence[Mapping[str, Any]]

_CHOICE = re.compile(
    r"(options?|opt|op|choices?|alternatives?|alt|endings?|candidates?|answers?|ans|solution|sol|)[\s_.-]*([a-j]|\d\d?)",
    re.IGNORECASE,
)
_FIRST = ("a", "0", "1")
# Names of the right choice, the first that is there; beside other columns they mean other things.
_KEYS = (
    *("answer", "answers", "correct_answer", "right_answer", "correct_option", "correct_choice", "correct", "right"),
    *("answer_key", "answer_text", "key", "cop", "ans", "solution", "gold", "target", "label"),
    *("answer_idx", "answer_index", "answer_id", "correct_idx", "correct_index"),
)


@dataclass(frozen=True)
class Choices:
    """Columns of choices.

    Attributes:
        names: The columns, in order.
        answer: The column of the right one; None if there is none.
        markers: What the answers call a choice, by column; empty if they repeat its text.
    """

    names: tuple[str, ...]
    answer: str | None
    markers: Mapping[str, str]


def find_choices(rows: Rows, names: Sequence[str]) -> Choices | None:
    """Return the columns of choices; None if there are none.

    Args:
        rows: The examined rows, flattened.
        names: The columns.
    """
    series: dict[str, dict[str, str]] = {}
    for name in names:
        match = _CHOICE.fullmatch(name.strip())
        if match is not None and not (match[1] == "" and match[2].isdecimal()):
            series.setdefault(match[1].lower(), {})[match[2].lower()] = name
    keys = {"_".join(words_of(name)): name for name in reversed(names)}
    for stem, found in series.items():
        marks = _consecutive(found)
        chosen = [found[mark] for mark in marks]
        answer = next((keys[key] for key in _KEYS if key in keys and keys[key] not in chosen), None)
        # answer_1 and answer_2 are choices only beside the right one; alone they are two answers.
        are_answers = role_of(stem) == "answer" or stem in ("ans", "sol")
        is_asked = any(average_length(rows, name) > 0 for name in names if name not in (*chosen, answer))
        if len(chosen) > 1 and is_asked and (answer is not None or not are_answers):
            return Choices(tuple(chosen), answer, _markers(rows, dict(zip(chosen, marks, strict=True)), answer))
    return None


def _consecutive(marks: Mapping[str, str]) -> list[str]:
    """Return the marks from the first on, a, b, c or 1, 2, 3, without a gap."""
    first = next((mark for mark in _FIRST if mark in marks), None)
    found: list[str] = []
    while first is not None and first in marks:
        found.append(first)
        first = chr(ord(first) + 1) if first.isalpha() else str(int(first) + 1)
    return found


def _markers(rows: Rows, marks: Mapping[str, str], answer: str | None) -> dict[str, str]:
    """Return what the answers call the choices: their letters or numbers, or the names of their columns.

    Numbers may count from 0 beside letters, too; they do only if 0 occurs, and from 1 only if the last one does.
    """
    said = {text_of(row.get(answer)).strip() for row in rows} - {""} if answer is not None else set()
    from_0 = {name: str(place) for place, name in enumerate(marks)}
    from_1 = {name: str(place) for place, name in enumerate(marks, start=1)}
    ways = [marks, {name: mark.upper() for name, mark in marks.items()}, {name: name for name in marks}]
    ways += [from_0] * ("0" in said) + [from_1] * (str(len(marks)) in said)
    return next((dict(called) for called in ways if said and said <= set(called.values())), {})


def warn_of_unmarked(rows: Rows, names: Sequence[str], answer: str | None) -> list[str]:
    """Return a sentence if a column holds lists of choices, and the answers are their letters or numbers alone.

    Args:
        rows: The examined rows.
        names: The columns that are joined to the prompt.
        answer: The column of the answer.
    """
    said = {text_of(row.get(answer)).strip() for row in rows} - {""} if answer is not None else set()
    for name in names:
        lists = [value for row in rows if isinstance(value := row.get(name), list | tuple) and value]
        if name == answer or role_of(name) != "choices" or not lists or len(lists) < len(rows):
            continue
        most = max(map(len, lists))
        marks = {str(place) for place in range(most + 1)} | {chr(ord("A") + place) for place in range(min(most, 26))}
        if said and {mark.upper() for mark in said} <= marks:
            shown = min(said)
            return [
                f"The answers in column {answer} are letters or numbers such as {shown}, but the choices in column"
                f" {name} have none: write them before the choices, or the text of the right one as the answer."
            ]
    return []
