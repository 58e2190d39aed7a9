"""Choose the columns of a table for a task: those in the options, else by names, else by content."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformer_foundry.core.base.errors import DataError, suggestion
from transformer_foundry.core.base.text import counted, short_list
from transformer_foundry.core.data.columns.cells import (
    average_length,
    has_weights,
    is_missing,
    text_of,
)
from transformer_foundry.core.data.columns.labels import choose_tags
from transformer_foundry.core.data.columns.prompts.choices import warn_of_unmarked
from transformer_foundry.core.data.columns.prompts.direction import direct_pair, warn_of_languages
from transformer_foundry.core.data.columns.prompts.parts import choose_prompt
from transformer_foundry.core.data.columns.prompts.unread import find_unread
from transformer_foundry.core.data.columns.prompts.verdicts import find_verdict, warn_of_verdict
from transformer_foundry.core.data.columns.roles import (
    LABEL_NAMES,
    NAMELESS,
    holds_paths,
    is_discrete,
    is_running_text,
    is_text_beside,
    named,
    role_of,
    text_name,
    words_of,
)
from transformer_foundry.core.data.columns.rows.odd_rows import warn_of_footer, warn_of_mixed_classes
from transformer_foundry.core.data.columns.targets import choose_targets
from transformer_foundry.core.data.columns.token_ids import choose_ids, find_ids
from transformer_foundry.core.data.document import Columns
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.models.options import TEXT_TASKS

__all__ = ["choose_columns"]

Rows = Sequence[Mapping[str, Any]]

_CLEARLY_LONGER = 3.0  # a column whose texts are this many times longer than those of any other is the text
_INDEX_COLUMN = "__index_level_0__"  # pandas adds it if rows have more fields than the header
_KEYS = frozenset(("id", "ids", "idx", "key", "index", "uuid", "url", "date", "time"))
_MOSTLY = 0.5  # share of the rows
_CLASS_NAMES = ("label", "labels", "class", "sentiment", "intent", "emotion", "target", "y")
_PROMPT_OPTIONS = ("causal_lm", "masked_lm", "seq2seq_lm")


def choose_columns(rows: Rows, task: str, options: DataOptions, source: str, num_labels: int | None = None) -> Columns:
    """Choose the columns for ``task``.

    Args:
        rows: The examined rows of the table, flattened.
        task: The task of the model.
        options: May name the columns.
        source: Name of the table in messages.
        num_labels: Number of outputs of a model of texts; None if it is unknown.

    Raises:
        DataError: If a named column is missing, or the choice is ambiguous.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_names(names, options, source)
    _check_options(task, options, source)
    if options.vocab_size is not None:
        return choose_ids(rows, names, task, options, source, num_labels)
    if task == "token_classification":
        chosen = choose_tags(rows, names, options, source)
    elif task in TEXT_TASKS:
        chosen = choose_targets(
            rows, names, task, options, source, functools.partial(choose_text, is_labelled=True), num_labels
        )
    elif task == "seq2seq_lm" and not options.span_corruption:
        chosen = _choose_source_and_target(rows, names, options, source)
    else:
        chosen = _choose_one_text(rows, names, options, source)
    if task == "causal_lm" and options.loss_on == "answer":
        if chosen.target is None:
            raise _no_answer(names, source)
        chosen = replace(chosen, learned="answers")
    elif task == "causal_lm" and chosen.template and any(has_weights(row.get(str(chosen.target))) for row in rows):
        chosen = replace(chosen, learned="weighted")
    if task in _PROMPT_OPTIONS and options.template is None and options.target_column is None:
        chosen = replace(chosen, verdict=find_verdict(rows, names, chosen))
    return _note_left_out(rows, names, task, chosen, options, source)


def choose_text(rows: Rows, names: list[str], source: str, *, is_labelled: bool = False) -> str:
    """Return the column of running text among ``names``.

    Args:
        rows: The examined rows.
        names: The columns.
        source: Name of the table in messages.
        is_labelled: Whether the texts have labels; for the remedy.

    Raises:
        DataError: If several could be the text, or none.
    """
    textual = [name for name in _textual(rows, names) if role_of(name) != "rejected"]
    known = text_name(textual)
    if known is not None:
        return known
    _refuse_paths(rows, names, source)
    ranked = sorted(textual, key=lambda name: -average_length(rows, name))
    if len(ranked) == 1:
        return ranked[0]
    if ranked and average_length(rows, ranked[0]) >= _CLEARLY_LONGER * average_length(rows, ranked[1]):
        return ranked[0]
    ids = [] if ranked else [name for name in find_ids(rows) if not _is_empty(rows, name)]
    if ids:
        raise DataError(
            f"{source} has no column of text, but {short_list(ids)} could be token ids.",
            "Expected text, or data.vocab_size for ids that are used as they are.",
            "Set data.vocab_size to the number of ids of the tokenizer that made them.",
        )
    every = list(dict.fromkeys(name for row in rows for name in row))
    blank = text_name([name for name in every if _is_empty(rows, name)])
    if blank is not None and not ranked:
        raise DataError(
            f"Column {blank} of {source} is empty in all of the {counted(len(rows), 'row')} that were examined.",
            "Expected texts.",
            "Fill in the column, or set data.text_column to another.",
        )
    joined = _joinable(rows, textual)
    example = "\\n".join("{" + name + "}" for name in joined)
    several = f': data.template="{example}".' if len(joined) > 1 else " with data.template."
    several = f"; a language model can join several{several}"
    several = ", and data.pair_column to that of a second text, if there is one." if is_labelled else several
    problem = "each of which could be the text" if ranked else "none of which contains text"
    found = ranked or every
    raise DataError(
        f"{source} has the columns {short_list(found)}, {problem}.",
        "Expected one column of text, or columns named as the parts of a prompt (instruction, input, output).",
        f"Set data.text_column to its name{several if ranked else '.'}",
    )


def _joinable(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the longest two columns that may be learned together: no alternatives, such as response_a, and no keys."""

    def is_alternative(name: str) -> bool:
        words = words_of(name)
        beside = [words_of(other) for other in names if other != name]
        is_marked = bool(words) and (words[-1].isdecimal() or len(words[-1]) == 1)
        return is_marked and any(len(other) == len(words) and other[:-1] == words[:-1] for other in beside)

    told = [name for name in names if not _KEYS.intersection(words_of(name)) and not is_discrete(rows, name)]
    kept = [name for name in told if not is_alternative(name)]
    longest = sorted(kept, key=lambda name: -average_length(rows, name))[:2]
    return [name for name in kept if name in longest]


def _check_names(names: list[str], options: DataOptions, source: str) -> None:
    if _INDEX_COLUMN in names:
        raise DataError(
            f"The rows of {source} have more fields than its header, which has: {short_list(names)}.",
            "Expected as many fields in a row as in the header.",
            "Quote fields that contain a comma, or correct the header.",
        )
    for key in ("text_column", "target_column", "label_column", "pair_column"):
        name = getattr(options, key)
        if name is not None and name not in names:
            raise DataError(
                f"{source} has no column {name} (data.{key}).{suggestion(name, names)}",
                f"Its columns: {short_list(names)}.",
                f"Set data.{key} to one of them.",
            )


def _check_options(task: str, options: DataOptions, source: str) -> None:
    if options.template is not None and task not in _PROMPT_OPTIONS:
        raise DataError(
            f"data.template is set, but the task is {task}.",
            f"Expected a task that writes text ({', '.join(_PROMPT_OPTIONS)}).",
            "Set data.template to null; data.text_column and data.pair_column name the texts of a classifier.",
        )
    if options.loss_on == "answer" and task not in ("causal_lm", "seq2seq_lm"):
        raise DataError(
            f"data.loss_on is answer, but the task is {task}, which {source} gives no answers for.",
            "Expected the task causal_lm; an encoder-decoder always learns the answer only.",
            "Set data.loss_on to all.",
        )


def _choose_one_text(rows: Rows, names: list[str], options: DataOptions, source: str) -> Columns:
    """Return the columns of one text: the parts of a prompt and its answer, or a column of text."""
    prompt = choose_prompt(rows, names, options, source)
    if prompt is not None:
        return prompt
    if options.target_column is not None:
        text, target = _two_columns(rows, names, options, source)
        template = "{" + text + "}\n{" + target + "}"
        return Columns(text, target=target, is_joined=True, template=template)
    return Columns(options.text_column or choose_text(rows, names, source))


def _choose_source_and_target(rows: Rows, names: list[str], options: DataOptions, source: str) -> Columns:
    """Return the parts of the source and the target, or a text whose spans are hidden."""
    prompt = choose_prompt(rows, names, options, source)
    if prompt is not None and prompt.target is not None:
        return replace(prompt, is_joined=False)
    textual = _sides(rows, names)
    if options.span_corruption is None and options.target_column is None and len(textual) == 1:
        return Columns(options.text_column or textual[0])
    return Columns(*_two_columns(rows, names, options, source))


def _two_columns(rows: Rows, names: list[str], options: DataOptions, source: str) -> tuple[str, str]:
    text, target = options.text_column, options.target_column
    left = [name for name in _sides(rows, names) if name not in (text, target)]
    if text is not None and target is not None:
        return text, target
    wanted = sum(name is None for name in (text, target))
    if len(left) > wanted and all(NAMELESS.fullmatch(name) for name in names):
        # Files of pairs without a header begin with both sides; what follows is about them, such as their origin.
        left = [name for name in left if any(" " in text_of(row.get(name)).strip() for row in rows)][:wanted]
    if len(left) > wanted:
        # Titles, names and addresses are no sentences; a source and its target nearly always are.
        left = [name for name in left if is_running_text(rows, name)]
    if len(left) == wanted:
        if wanted == 1 or any(is_discrete(rows, name) for name in left):
            waiting = iter(left)
            return text or next(waiting), target or next(waiting)
        return direct_pair(left[0], left[1], source)
    empty = [name for name in names if _is_empty(rows, name)]
    shown = f"{short_list(names)}" + (f"; empty in all examined rows: {short_list(empty)}" if empty else "")
    raise DataError(
        f"Source and target columns of {source} are ambiguous; its columns: {shown}.",
        "Expected two columns of text, or one with data.span_corruption=true.",
        "Set data.text_column and data.target_column to their names, or data.template to join several columns.",
    )


def _sides(rows: Rows, names: list[str]) -> list[str]:
    """Return the columns that could be source or target, a class last: categories and rejected answers are neither."""
    textual = [name for name in _textual(rows, names) if role_of(name) != "rejected"]
    classes = [name for name in textual if is_discrete(rows, name)]
    label = named(classes, LABEL_NAMES)
    return [name for name in textual if name not in classes] + ([] if label is None else [label])


def _is_empty(rows: Rows, name: str) -> bool:
    values = (row.get(name) for row in rows)
    return all(
        is_missing(value) or (isinstance(value, str | list) and not value) or str(value).isspace() for value in values
    )


def _textual(rows: Rows, names: Sequence[str]) -> list[str]:
    filled = [name for name in names if average_length(rows, name) > 0 and not _is_empty(rows, name)]
    paths = _paths(rows, filled)
    return [name for name in filled if name not in paths]


def _paths(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the columns of paths of files; what is alone in a table is its text, whatever it looks like."""
    is_alone = len({name for row in rows for name in row}) == 1
    return [] if is_alone else [name for name in names if holds_paths(rows, name)]


def _refuse_paths(rows: Rows, names: Sequence[str], source: str) -> None:
    """Raise an error if the texts are in files of their own, whose paths are in the table."""
    paths = _paths(rows, names)
    if paths and all(is_discrete(rows, name) for name in _textual(rows, names)):
        first = next(text for row in rows if (text := text_of(row.get(paths[0])).strip()))
        raise DataError(
            f"Column {paths[0]} of {source} holds paths of files, such as {first[:60]!r}, and no other column texts.",
            "Expected the texts themselves.",
            f"Write the text of each file into the table, or set data.text_column={paths[0]} to learn the paths.",
        )


def _no_answer(names: list[str], source: str) -> DataError:
    return DataError(
        f"data.loss_on is answer, but no column of {source} is an answer; its columns: {short_list(names)}.",
        "Expected a prompt and an answer, such as instruction and output, or a conversation.",
        "Set data.target_column to the column of the answer, or data.loss_on to all.",
    )


def _note_left_out(
    rows: Rows, names: list[str], task: str, chosen: Columns, options: DataOptions, source: str
) -> Columns:
    """Add the columns that are not read, and a warning for those that hold text or classes."""
    used = chosen.names()
    left = [name for name in names if name not in used and any(not is_missing(row.get(name)) for row in rows)]
    given = (chosen.label, *chosen.flags)
    # Columns beside words and their tags are other tags.
    texts = [] if task == "token_classification" else left
    texts = [name for name in texts if role_of(name) != "rejected" and is_text_beside(rows, name)]
    texts = [name for name in texts if not _repeats(rows, name, [name for name in used if name not in given])]
    warnings = []
    if texts:
        remedy = "data.template joins columns" if task in _PROMPT_OPTIONS else "data.pair_column reads a second text"
        columns = f"Column{'s' * (len(texts) > 1)} {short_list(texts)}"
        warnings.append(f"{columns} hold{'s' * (len(texts) == 1)} text that is not read; {remedy}.")
    discrete = [name for name in left if is_discrete(rows, name) and not isinstance(rows[0].get(name), list)]
    classes = named(discrete, _CLASS_NAMES) or next((name for name in discrete if "answer" in words_of(name)), None)
    if classes is not None and task in ("causal_lm", "masked_lm") and chosen.target is None:
        found = short_list(sorted({text_of(row.get(classes)) for row in rows} - {""}), 4)
        warnings.append(
            f"The texts have classes (column {classes}: {found}), which a language model does not learn; "
            "train a classifier, or set data.target_column to learn to write them."
        )
    inside = find_unread(rows, chosen, left)
    warnings += inside.warnings
    warnings += warn_of_verdict(rows, names, chosen) if task in _PROMPT_OPTIONS else []
    warnings += warn_of_languages(rows, left, chosen) if task == "seq2seq_lm" else []
    if task != "token_classification" and options.text_column is None:
        warnings += warn_of_footer(rows, chosen.text, source)
    warnings += warn_of_mixed_classes(rows, chosen.label) if chosen.label and chosen.targets == "class" else []
    warnings += warn_of_unmarked(rows, chosen.names(), chosen.target)
    equal = _equal_sides(rows, chosen)
    if equal:
        warnings.append(f"{equal[0]} and {equal[1]} are equal in most rows: is one of them the wrong column?")
    return replace(chosen, left_out=(*left, *inside.keys), warnings=(*chosen.warnings, *warnings))


def _equal_sides(rows: Rows, chosen: Columns) -> tuple[str, str] | None:
    """Return the names of two sides of a pair whose texts are mostly equal."""
    other = chosen.pair or chosen.target
    if other is None or other == chosen.text:
        return None
    sides = [(text_of(row.get(chosen.text)).strip(), text_of(row.get(other)).strip()) for row in rows]
    filled = [one == two for one, two in sides if one]
    return (chosen.text, other) if filled and sum(filled) > _MOSTLY * len(filled) else None


def _repeats(rows: Rows, name: str, used: Sequence[str]) -> bool:
    """Return whether a column only repeats what is in the columns that are read, or contains them all."""
    for row in rows:
        text = text_of(row.get(name)).strip()
        read = [text_of(row.get(other)).strip() for other in used]
        if text and not any(text in part or (part and part in text) for part in read):
            return False
    return True
