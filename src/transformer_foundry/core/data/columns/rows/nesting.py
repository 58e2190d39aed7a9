"""Nested rows: one row for each question of SQuAD, one text of a conversation whose turns have other keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from transformer_foundry.core.base.nested import flatten
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import is_missing, item_text, items_of, read_turns, text_of
from transformer_foundry.core.data.columns.roles import named, role_of, words_of
from transformer_foundry.core.data.columns.rows.row_order import falling, is_named_as_time

__all__ = ["Nesting", "find_nesting", "unfold"]

_MOST_LEVELS = 4
_CONVERSATIONS = frozenset(
    (
        *("conversation", "conversations", "dialogue", "dialogues", "dialog", "dialogs", "chat", "chats", "message"),
        *("messages", "turn", "turns", "thread", "transcript", "utterances", "rounds", "exchanges", "session"),
    )
)
_SPEAKERS = (
    "sender",
    "sender_name",
    "from_name",
    "participant",
    "speaker_role",
    "speaker_name",
    "speaker_id",
    "author_role",
)
_MAYBE_SPEAKERS = ("author", "user", "username", "user_name", "name", "nick", "who", "agent", "type", "kind")
_NO_NAMES = ("type", "kind")  # only their values tell that they name who speaks
_SPEAKING = frozenset(
    (
        *("user", "human", "assistant", "ai", "bot", "gpt", "chatgpt", "model", "system", "tool", "function", "llm"),
        *("agent", "customer", "client", "developer", "operator", "patient", "doctor", "therapist", "student"),
        *("teacher", "tutor", "interviewer", "interviewee", "caller", "support", "visitor", "seeker", "supporter"),
    )
)
_SAID = ("content", "text", "message", "value", "utterance", "body", "msg", "parts")
_BOTS = frozenset(("assistant", "bot", "gpt", "ai", "chatgpt", "model", "agent"))
_ASKED = frozenset(("question", "input", "instruction", "context"))
_LONGEST_NAME = 4  # words


@dataclass(frozen=True)
class Nesting:
    """How nested rows are read.

    Attributes:
        path: Columns to unfold, from the outside to the inside: each inner item is a row.
        column: The list whose items stay together; None if there is none.
        roles: Key of its items -> role of the message that it holds; empty if the items hold a speaker or a text only.
        speaker: Key of who says an item; None if the items are parts of one text.
        said: Key of the text of an item.
        is_reversed: Whether the last item was said first.
    """

    path: tuple[str, ...] = ()
    column: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    speaker: str | None = None
    said: str | None = None
    is_reversed: bool = False

    @property
    def note(self) -> str:
        """What was decided, in a sentence; empty if there is nothing to say."""
        if self.roles:
            return f"The items of {self.column} are one conversation ({short_list(list(self.roles))})."
        if self.column is not None and self.said is None:
            return f"The newest message of {self.column} stands first: messages are read from the last to the first."
        if self.column is not None:
            who = "one text" if self.speaker is None else f"a conversation ({self.speaker}:"
            order = ", from the last to the first" if self.is_reversed else ""
            said = f" ({self.said})" if self.speaker is None else f" {self.said}{order})"
            return f"The items of {self.column} are {who}{said}."
        return f"Each item of {'.'.join(self.path)} is a row." if self.path else ""

    def join(self, cell: Any) -> Any:
        """Return the items of a cell as messages, or as the texts of its items."""
        inner = items_of(cell)[:: -1 if self.is_reversed else 1]
        if self.said is None and not self.roles:
            return inner
        items = [flatten(item) for item in inner]
        if self.roles:
            return [
                {"role": role, "content": item[key]}
                for item in items
                for key, role in self.roles.items()
                if not is_missing(item.get(key))
            ]
        if self.speaker is None:
            return [text for item in items if (text := text_of(item.get(str(self.said))))]
        return [self._message(item) for item in items]

    def _message(self, item: Mapping[str, Any]) -> dict[str, Any]:
        said = item.get(str(self.said))
        text = item_text({"content": said})
        rest = {key: value for key, value in item.items() if key not in (self.speaker, self.said) and value != text}
        return {"role": text_of(item.get(str(self.speaker))), "content": said} | {
            key: value for key, value in rest.items() if key not in ("role", "content")
        }


def find_nesting(rows: Sequence[Mapping[str, Any]], chosen: Collection[str | None] = ()) -> Nesting:
    """Return how nested rows are read: lists of mappings with parts of prompts, or with what somebody says.

    Args:
        rows: The examined rows of the table.
        chosen: Names that options give: items that have one are rows.
    """
    path: list[str] = []
    while len(path) < _MOST_LEVELS:
        flat = [item for row in rows for item in unfold(row, Nesting(tuple(path)))]
        names = dict.fromkeys(name for row in flat for name in row)
        for name in names:
            found = _find_joined(flat, name, names, tuple(path))
            if found is not None and {*found.roles, found.said}.isdisjoint(set(chosen) - {None}):
                return found
        inner = [name for name in names if _is_nested(flat, name)]
        if len(inner) != 1:
            break
        path += inner
    return Nesting(tuple(path))


def unfold(row: Mapping[str, Any], nesting: Nesting) -> Iterator[dict[str, Any]]:
    """Yield the flattened rows of a nested row: each inner item, with the values around it."""
    for flat in _unfold(row, nesting.path):
        if nesting.column is not None and not is_missing(flat.get(nesting.column)):
            flat[nesting.column] = nesting.join(flat[nesting.column])
        yield flat


def _unfold(row: Mapping[str, Any], path: Sequence[str]) -> Iterator[dict[str, Any]]:
    flat = flatten(row)
    if not path:
        yield flat
        return
    items = flat.pop(path[0], None) or ()
    for item in items:
        yield from _unfold({**flat, **item}, path[1:])


def _find_joined(
    rows: Sequence[Mapping[str, Any]], name: str, names: Collection[str], path: tuple[str, ...]
) -> Nesting | None:
    """Return how the items in a column are one text; None if it holds no items, or each is a row."""
    values = [row[name] for row in rows if not is_missing(row.get(name)) and row[name] != []]
    cells = [items_of(value) for value in values]
    if not cells or not all(cells) or role_of(name) in ("answer", "rejected"):
        return None
    is_reversed = _is_newest_first(cells)
    if read_turns(values[0]) is not None:
        return Nesting(path, name, is_reversed=True) if is_reversed else None
    items = [flatten(item) for cell in cells for item in cell]
    keys = list(dict.fromkeys(key for item in items for key in item))
    is_conversation = bool(_CONVERSATIONS.intersection(words_of(name)))
    is_answered = any(role_of(other) == "answer" for other in names if other != name)
    answers = [key for key in keys if role_of(key) == "answer" or key.lower() in _BOTS]
    asked = [key for key in keys if role_of(key) in _ASKED and key not in answers]
    if asked and answers:
        if not is_conversation or is_answered:
            return None
        systems = [key for key in keys if role_of(key) == "system"]
        roles = dict.fromkeys(systems, "system") | dict.fromkeys(asked, "user") | {answers[0]: "assistant"}
        return Nesting(path, name, roles)
    said = named(keys, _SAID) or next((key for key in keys if key.rpartition(".")[2] in _SAID), None)
    speaker = None if said is None else _find_speaker(items, keys, is_conversation)
    if speaker is not None:
        return Nesting(path, name, speaker=speaker, said=said, is_reversed=is_reversed)
    parts = [key for key in keys if role_of(key) == "context" and all(isinstance(i.get(key, ""), str) for i in items)]
    if is_answered and parts and not answers and role_of(name) == "context":
        return Nesting(path, name, said=parts[0])
    return None


def _is_newest_first(cells: Sequence[Sequence[Mapping[str, Any]]]) -> bool:
    """Return whether a time in the items of cells falls from each to the next."""
    steps = [pair for cell in cells for pair in pairwise(cell)]
    names = [key for key in dict.fromkeys(key for one, _ in steps for key in one) if is_named_as_time(key)]
    falls = [falling((one.get(name), other.get(name)) for one, other in steps) for name in names]
    return any(found and all(found) for found in falls)


def _find_speaker(items: Sequence[Mapping[str, Any]], keys: Sequence[str], is_conversation: bool) -> str | None:
    """Return the key of who says an item: by its name, or by its values."""
    for key in keys:
        values = {str(item.get(key)).strip() for item in items if not is_missing(item.get(key))}
        names = not any(len(value.split()) > _LONGEST_NAME for value in values)
        last = "_".join(words_of(key.removesuffix(".role").removesuffix(".name")))
        if not values or not names:
            continue
        if last in _SPEAKERS or (last in _MAYBE_SPEAKERS and last not in _NO_NAMES and is_conversation):
            return key
        if last in _MAYBE_SPEAKERS and len(values) > 1 and _SPEAKING.issuperset(value.lower() for value in values):
            return key
    return None


def _is_nested(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name)]
    if not values or role_of(name) in ("answer", "rejected"):
        return False
    if not all(isinstance(value, list | tuple) and isinstance(value[0], Mapping) for value in values):
        return False
    keys = dict.fromkeys(key for value in values for item in value for key in item if role_of(key))
    around = dict.fromkeys(key for row in rows for key in row)
    return bool(keys) and not any(key in around for key in keys) and read_turns(values[0]) is None
