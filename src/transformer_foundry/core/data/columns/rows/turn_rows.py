"""Conversations whose messages are rows of their own: rows of one conversation become one text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.columns.cells import average_length, is_missing, text_of
from transformer_foundry.core.data.columns.prompts.parts import find_answer
from transformer_foundry.core.data.columns.roles import named, words_of
from transformer_foundry.core.data.columns.rows.row_order import falling, is_named_as_time, place_of

__all__ = ["TurnLayout", "find_turn_layout"]

Row = Mapping[str, Any]
Place = Callable[[int], str]

_SPEAKERS = ("role", "speaker", "from", "sender", "speaker_role", "speaker_id", "speaker_idx", "participant")
_TEXTS = ("utterance", "content", "text", "message", "body", "value", "sentence")
_CONVERSATIONS = frozenset(("dialogue", "dialog", "conversation", "conv", "thread", "session", "chat", "tree"))
_NUMBERS = frozenset(("id", "idx", "no", "nr", "number", "key", "index", "uuid"))
_TURNS = frozenset(("turn", "utterance", "position", "order", "step"))
_OWN, _PARENT = ("message_id", "id", "uuid", "msg_id"), ("parent_id", "parent", "reply_to", "parent_message_id")


@dataclass(frozen=True)
class TurnLayout:
    """How rows become conversations.

    Attributes:
        text: Column of what is said; that of the conversation in the rows that are made.
        speaker: Column of who says it; None if there is none.
        conversation: Column that is equal in all rows of a conversation; None if each row names the one it answers.
        turn: Column of the place in the conversation; None if there is none.
        own: Column of the key of a message.
        parent: Column of the key of the message that it answers.
        left_out: The other columns.
        warnings: What the user should know about the order of the rows, in sentences.
    """

    text: str
    speaker: str | None
    conversation: str | None
    turn: str | None = None
    own: str = ""
    parent: str = ""
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        keys = (self.conversation, self.turn) if self.conversation else (self.own, self.parent)
        return tuple(name for name in (*keys, self.speaker, self.text) if name)

    def convert(self, rows: Iterable[Row], place: Place) -> Iterator[tuple[int, Row]]:
        """Yield conversations, each with the number of its first row: messages under the name of the text.

        Args:
            rows: Flattened rows.
            place: Returns file and row of a row number, for messages.

        Raises:
            DataError: If the rows of a conversation are not together and in order.
        """
        first, turns, before, seen = 0, list[Row](), dict[str, Any](), set[int]()
        for number, row in enumerate(rows):
            if not turns or self._begins(row, before):
                if turns:
                    yield first, {self.text: turns}
                self._check_new(row, seen, number, place)
                first, turns = number, []
            elif self._is_unordered(row, before):
                raise self._error(place(number), f"its {self.turn} is {row.get(str(self.turn))} after a later one")
            role = "" if self.speaker is None else text_of(row.get(self.speaker))
            turns.append({"role": role, "content": text_of(row.get(self.text))})
            before = dict(row)
        if turns:
            yield first, {self.text: turns}

    def _begins(self, row: Row, before: Row) -> bool:
        if self.conversation is not None:
            return row.get(self.conversation) != before.get(self.conversation)
        return is_missing(row.get(self.parent)) or row.get(self.parent) != before.get(self.own)

    def _check_new(self, row: Row, seen: set[int], number: int, place: Place) -> None:
        if self.conversation is None:
            if not is_missing(row.get(self.parent)):
                raise self._error(place(number), f"its {self.parent} {row.get(self.parent)} is not the row before it")
            return
        key = hash(text_of(row.get(self.conversation)))
        if key in seen:
            raise self._error(place(number), f"{self.conversation} {row.get(self.conversation)} began further up")
        seen.add(key)

    def _is_unordered(self, row: Row, before: Row) -> bool:
        if self.turn is None:
            return False
        place, earlier = place_of(row.get(self.turn)), place_of(before.get(self.turn))
        return place is not None and earlier is not None and place < earlier

    def _error(self, place: str, problem: str) -> DataError:
        key = "them" if self.conversation is None else f"by {self.conversation}"
        order = f"Sort the rows {key}{f' and {self.turn}' if self.turn and self.conversation else ''}"
        tree = "Of a tree of replies, keep one reply to each message, or write a list of messages in each row"
        return DataError(
            f"{place}: {problem}; each row is a message of a conversation.",
            "Expected the rows of a conversation one after another, in order.",
            f"{order if self.conversation else tree}; data.text_column={self.text} makes each message a text.",
        )


def find_turn_layout(rows: Sequence[Row]) -> TurnLayout | None:
    """Return how rows are conversations; None if a row is a text of its own.

    A row is a message if it has a text, and either a speaker and the message that it answers, or the key of a
    conversation with a speaker or a place in it, and no column is an answer.

    Args:
        rows: The examined rows, flattened.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = named([name for name in names if average_length(rows, name) > 0], _TEXTS)
    if text is None or find_answer(rows, names) is not None:
        return None
    speaker = named([name for name in names if name != text], _SPEAKERS)
    others = [name for name in names if name not in (text, speaker)]
    turn = next((name for name in others if _TURNS.intersection(words_of(name))), None)
    key = next((name for name in others if name != turn and _is_key(name) and _repeats(rows, name)), None)
    own, parent = named(others, _OWN), named(others, _PARENT)
    if own is not None and parent is not None and speaker is not None and _answers(rows, own, parent):
        layout = TurnLayout(text, speaker, None, None, own, parent)
    elif key is not None and (speaker is not None or turn is not None):
        layout = TurnLayout(text, speaker, key, turn)
        layout = layout if turn is not None else _with_order(layout, rows, others)
    else:
        return None
    left = tuple(name for name in names if name not in layout.names)
    return replace(layout, left_out=left)


def _with_order(layout: TurnLayout, rows: Sequence[Row], names: Sequence[str]) -> TurnLayout:
    """Return the layout with a column that falls within conversations, by which the rows are refused.

    A time that falls in a few places is a warning; a number falls from row to row, or means something else.
    """
    steps = [
        pair
        for pair in pairwise(rows)
        if pair[0].get(str(layout.conversation)) == pair[1].get(str(layout.conversation))
    ]
    for name in names:
        is_time, is_number = is_named_as_time(name), not _NUMBERS.isdisjoint(words_of(name)[-1:])
        if name == layout.conversation or not (is_time or is_number):
            continue
        falls = falling((one.get(name), other.get(name)) for one, other in steps)
        if falls and (all(falls) or (is_time and sum(falls) > len(falls) / 2)):
            return replace(layout, turn=name)
        if is_time and any(falls):
            said = (
                f"Within conversations, {name} falls in {sum(falls)} of {len(falls)} examined rows: check their order."
            )
            return replace(layout, warnings=(said,))
    return layout


def _is_key(name: str) -> bool:
    words = words_of(name)
    return bool(_CONVERSATIONS.intersection(words)) and (len(words) == 1 or words[-1] in _NUMBERS)


def _repeats(rows: Sequence[Row], name: str) -> bool:
    """Return whether a column of short values has one in several rows, and several of them."""
    values = [text_of(row.get(name)) for row in rows]
    return 1 < len(set(values)) < len(values) and not any(" " in value.strip() for value in values)


def _answers(rows: Sequence[Row], own: str, parent: str) -> bool:
    """Return whether most of the parents in a column are keys of other rows."""
    keys = {row.get(own) for row in rows}
    parents = [row.get(parent) for row in rows if not is_missing(row.get(parent))]
    return bool(parents) and 2 * sum(key in keys for key in parents) > len(parents)
