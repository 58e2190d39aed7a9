"""Parts of prompts: which columns they are, in which order, and which one is the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.columns.cells import average_length, is_missing, items_of, read_turns, text_of
from transformer_foundry.core.data.columns.prompts.choices import Choices, find_choices
from transformer_foundry.core.data.columns.prompts.template import join_lines_template, parse_template
from transformer_foundry.core.data.columns.roles import (
    LABEL_NAMES,
    is_discrete,
    is_running_text,
    prompt_rank,
    role_of,
    text_name,
    words_of,
)
from transformer_foundry.core.data.document import Columns
from transformer_foundry.core.data.options import DataOptions

__all__ = ["choose_prompt", "find_answer", "require_fields"]

Rows = Sequence[Mapping[str, Any]]
Roles = Mapping[str, str | None]

# Without an answer beside them, columns of these names are metadata: where a text is from, who wrote it.
_WEAK = frozenset(("source", "src", "user", "human", "post"))
# Words that tell an answer from others: those of preferences, and of questions with right and wrong answers.
_PREFERRED = frozenset(("chosen", "preferred"))
_BEST = frozenset(("best", "accepted", "golden", "gold", "winning"))
_RIGHT = frozenset(("correct", "right", "true", "good", "final", "expected"))
_SQL = re.compile(r"(select|with|insert|update|delete|create)\s", re.IGNORECASE)
_ABOUT_ANSWERS = frozenset(
    ("id", "ids", "type", "types", "start", "end", "index", "key", "lang", "score", "url", "count")
)
_ASKERS = frozenset(("user", "human", "prompter"))
_ASKING = ("instruction", "context", "input", "question")
_PREFIX, _PREFIXED = "prefix", frozenset(("prefix", "input_text", "target_text"))
_MOST_CONTAINED = 0.8  # share of the rows


def choose_prompt(rows: Rows, names: list[str], options: DataOptions, source: str) -> Columns | None:
    """Return the parts of a prompt and its answer; None if the table has no such columns.

    The parts keep their order in the table, except that a system text comes first and the answer last. In a table
    whose columns are sorted by name, or whose answer stands before a part of the prompt, the order is that of the
    roles: instruction, context, input, question, choices.
    """
    if options.template is not None:
        return _from_template(options.template, names, options, source)
    choices = find_choices(rows, names)
    roles = _roles(rows, names, choices)
    conversation = _find_conversation(rows, names, options)
    if conversation is not None and not _is_answered(rows, roles, conversation):
        return _with_conversation(rows, roles, conversation)
    chosen = options.target_column or (choices.answer if choices is not None else None)
    answer = chosen or _find_answer(rows, {name: roles[name] for name in names if name != options.text_column})
    if options.text_column is not None:
        return _joined((options.text_column,), answer) if answer is not None and options.target_column else None
    parts = _find_parts(rows, roles, answer)
    markers = {} if choices is None else choices.markers
    rest = [name for name in names if name not in (*parts, answer) and average_length(rows, name) > 0]
    text = text_name(rest)
    if answer is None or options.target_column is not None:
        return _joined(parts, answer, markers) if len(parts) > (answer is None) and text is None else None
    is_class = not parts and is_discrete(rows, answer)
    if text is not None and (_is_contained(rows, answer, text) or is_class):
        return None  # the text is the whole prompt already, or a class stands beside it
    if text is not None and "context" not in map(roles.get, parts):
        parts = tuple(name for name in names if name in (*parts, text))
    return _with_prefix(rows, names, _joined(parts, answer, markers)) if parts else None


def _with_prefix(rows: Rows, names: Sequence[str], chosen: Columns) -> Columns:
    """Write the name of the task before the text, as simpletransformers does for T5: ``summarize: ...``."""
    is_task = set(names) >= _PREFIXED and is_discrete(rows, _PREFIX) and all(text_of(row.get(_PREFIX)) for row in rows)
    if not is_task or chosen.template is None:
        return chosen
    return replace(chosen, template=f"{{{_PREFIX}}}: {chosen.template}")


def find_answer(rows: Rows, names: list[str]) -> str | None:
    """Return the column of the answer to a prompt; None if there is none."""
    return _find_answer(rows, {name: role_of(name, tuple(names)) for name in names})


def require_fields(template: str, names: Sequence[str], source: str) -> None:
    """Raise an error if a template names a column that the table does not have.

    Raises:
        DataError: With the nearest name.
    """
    for name in parse_template(template).names:
        if name not in names:
            raise DataError(
                f"{source} has no column {name} (data.template).{suggestion(name, names)}",
                f"Its columns: {short_list(names)}.",
                "Correct data.template.",
            )


def _roles(rows: Rows, names: list[str], choices: Choices | None) -> Roles:
    """Return the role of each column; what is asked beside choices is a question, whatever its name."""
    roles = {name: role_of(name, tuple(names)) for name in names}
    roles |= {name: "answer" for name in names if _holds_completions(rows, name)}
    if "answer" not in roles.values() and any(role in _ASKING for role in roles.values()):
        roles |= dict.fromkeys(_answers_by_content(rows, roles), "answer")
    if choices is None:
        return roles
    roles |= dict.fromkeys(choices.names, "choices") | ({} if choices.answer is None else {choices.answer: "answer"})
    others = [name for name in names if name not in (*choices.names, choices.answer)]
    if not any(roles[name] in _ASKING for name in others):
        asked = [name for name in others if is_running_text(rows, name) and not is_discrete(rows, name)]
        roles |= dict.fromkeys(
            (name for name in asked if roles[name] is None and text_name([name]) is None), "question"
        )
    return roles


def _from_template(template: str, names: list[str], options: DataOptions, source: str) -> Columns:
    require_fields(template, names, source)
    fields = parse_template(template).names
    if options.target_column is not None and options.target_column not in fields:
        raise DataError(
            f"data.target_column is {options.target_column}, which data.template does not contain.",
            f"Expected one of its fields: {short_list(fields)}.",
            "Add the column to data.template, or set data.target_column to null.",
        )
    found = [name for name in fields if role_of(name) == "answer"]
    answer = options.target_column or (found[-1] if found else fields[-1] if len(fields) > 1 else None)
    return Columns(_first_part(fields, answer), target=answer, is_joined=True, template=template)


def _joined(parts: Sequence[str], answer: str | None, markers: Mapping[str, str] | None = None) -> Columns:
    fields = [*parts, *([] if answer is None else [answer])]
    template = join_lines_template(fields, markers or {})
    return Columns(_first_part(fields, answer), target=answer, is_joined=True, template=template)


def _first_part(fields: Sequence[str], answer: str | None) -> str:
    return next((name for name in fields if name != answer), fields[0])


def _find_conversation(rows: Rows, names: list[str], options: DataOptions) -> str | None:
    if options.text_column is not None:
        return options.text_column if _holds_turns(rows, options.text_column) else None
    found = [name for name in names if role_of(name) != "rejected" and _holds_turns(rows, name)]
    chosen = [name for name in found if role_of(name) == "answer"]
    return next(iter(chosen or found), None)


def _is_answered(rows: Rows, roles: Roles, conversation: str) -> bool:
    """Return whether a conversation is only the prompt of an answer in another column."""
    if roles[conversation] == "answer" or (roles[conversation] is None and not _ends_asking(rows, conversation)):
        return False
    answer = _find_answer(rows, {name: role for name, role in roles.items() if name != conversation})
    return answer is not None and not _is_contained(rows, answer, conversation)


def _answers_by_content(rows: Rows, roles: Roles) -> list[str]:
    """Return columns that answer beside a question without the name of an answer: SQL, and texts of answers_spans."""
    asked = [name for name, role in roles.items() if role in _ASKING]
    queries = [name for name in asked if len(asked) > 1 and _holds_sql(rows, name)]
    if queries:
        return queries
    found = [
        name
        for name, role in roles.items()
        if role is None
        and len(words := words_of(name)) > 1
        and any(role_of(word) == "answer" for word in words)
        and not _ABOUT_ANSWERS.intersection(words)
        and average_length(rows, name) > 0
        and (not is_discrete(rows, name) or isinstance(rows[0].get(name), list | tuple))
    ]
    return found if len(found) == 1 else []  # of answer_1 and answer_2, the user says which is right


def _holds_sql(rows: Rows, name: str) -> bool:
    texts = [text for row in rows if (text := text_of(row.get(name)).strip())]
    return bool(texts) and sum(_SQL.match(text) is not None for text in texts) > _MOST_CONTAINED * len(texts)


def _ends_asking(rows: Rows, conversation: str) -> bool:
    """Return whether the last message of the conversations is the user's."""
    turns = [found for row in rows if (found := read_turns(row.get(conversation)))]
    return bool(turns) and all(found[-1].role.lower() in _ASKERS for found in turns)


def _holds_completions(rows: Rows, name: str) -> bool:
    """Return whether a column holds answers of a model as the API of OpenAI returns them: choices, each a message."""
    values = [row.get(name) for row in rows if not is_missing(row.get(name)) and row.get(name) != []]
    return bool(values) and all(
        (items := items_of(value)) and all(isinstance(item.get("message"), Mapping) for item in items)
        for value in values
    )


def _holds_turns(rows: Rows, name: str) -> bool:
    values = [row.get(name) for row in rows if not is_missing(row.get(name)) and row.get(name) != []]
    return bool(values) and all(read_turns(value) is not None for value in values)


def _with_conversation(rows: Rows, roles: Roles, conversation: str) -> Columns:
    """Return a conversation, after the parts of the prompt that it does not contain itself."""
    others = {name: role for name, role in roles.items() if name != conversation}
    parts = [name for name in _find_parts(rows, others, None) if not _is_contained(rows, name, conversation)]
    said = [name for name in parts if not _holds_turns(rows, name)]
    markers = {name: "system: " if roles[name] == "system" else "user: " for name in said}
    lines = [markers.get(name, "") + "{" + name + "}" for name in (*parts, conversation)]
    return Columns(parts[0] if parts else conversation, target=conversation, is_joined=True, template="\n".join(lines))


def _find_answer(rows: Rows, roles: Roles) -> str | None:
    """Return the answer: the preferred one, else the one of an exact name, else the best; of equals the longest."""
    found = [name for name, role in roles.items() if role == "answer" and _has_values(rows, name)]

    def rank(name: str) -> tuple[int, int]:
        words = words_of(name)
        is_class = name.lower() in LABEL_NAMES and is_discrete(rows, name)
        places = (
            _PREFERRED.intersection(words),
            not is_class and role_of(name) == "answer" and len(words) == 1,
            _BEST.intersection(words),
            _RIGHT.intersection(words),
            not is_class,
        )
        first = next((place for place, holds in enumerate(places) if holds), len(places))
        return first, -sum(len(text_of(row.get(name))) for row in rows)

    return min(found, key=rank, default=None)


def _find_parts(rows: Rows, roles: Roles, answer: str | None) -> tuple[str, ...]:
    # With a target of another role, as for questions to given answers, an answer is part of the prompt.
    excluded = (None, "rejected", "answer" if answer is None or roles[answer] == "answer" else None)
    names = list(roles)
    parts = [
        name
        for name in names
        if name != answer
        and roles[name] not in excluded
        and average_length(rows, name) > 0
        and (name.lower() not in _WEAK or (answer is not None and not is_discrete(rows, name)))
    ]
    is_sorted = len(names) > 2 and names == sorted(names)
    is_answered_early = answer is not None and any(names.index(answer) < names.index(name) for name in parts)
    by_rank = is_sorted or is_answered_early
    return tuple(sorted(parts, key=lambda name: prompt_rank(roles[name]) if by_rank else roles[name] != "system"))


def _has_values(rows: Rows, name: str) -> bool:
    return any(text_of(row.get(name)).strip() for row in rows)


def _is_contained(rows: Rows, part: str, whole: str) -> bool:
    """Return whether the text of a column nearly always occurs in that of another."""
    pairs = [(text_of(row.get(part)).strip(), text_of(row.get(whole))) for row in rows]
    filled = [(inner, outer) for inner, outer in pairs if inner]
    return bool(filled) and sum(inner in outer for inner, outer in filled) >= _MOST_CONTAINED * len(filled)
