"""Tables as a source of documents, whatever their rows are read from."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.nested import flatten
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import counted, one_line, short_list
from transformer_foundry.core.data.columns.cells import is_missing
from transformer_foundry.core.data.columns.choose import choose_columns
from transformer_foundry.core.data.columns.documents import to_document
from transformer_foundry.core.data.columns.prompts.verdicts import is_refused
from transformer_foundry.core.data.columns.rows.annotations import find_annotation, is_accepted, warn_of_annotation
from transformer_foundry.core.data.columns.rows.nesting import Nesting, find_nesting, unfold
from transformer_foundry.core.data.columns.rows.numbers import read_flag
from transformer_foundry.core.data.columns.rows.turn_rows import TurnLayout, find_turn_layout
from transformer_foundry.core.data.columns.split_column import SplitColumn, find_split_column
from transformer_foundry.core.data.columns.tag_layouts import TagLayout, find_tag_layout
from transformer_foundry.core.data.document import SPLIT_NAMES, Document
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.rows import FilteredRows, Row, Rows, StreamedRows
from transformer_foundry.core.models.options import TEXT_TASKS

__all__ = ["TableSource"]

_log = logging.getLogger(__name__)

_ROWS_TO_GUESS_FROM = 100
_NO_LABEL = -1  # the label in test splits of published benchmarks whose labels are secret
_TASKS_OF_TARGETS = {"class": "sequence_classification", "number": "regression"} | dict.fromkeys(
    ("columns", "flags", "names"), "multi_label_classification"
)


class TableSource:
    """A source of documents in tables, one table per split.

    Args:
        name: Name of the source in messages.
        tables: Rows of each split.
        task: The task of the model.
        options: May name the columns.
        digest: Returns the digest of the content.
        location: Returns file and row of a document, given its split and its number counted from 0.
        label_names: Declared names of the classes, by column.
        notes: What was decided about the data, in sentences.
        warnings: What the user should know about the data, in sentences.
        num_labels: Number of outputs of a model of texts; None if it is unknown.

    Attributes:
        task: The task; for a model of texts whose task is not set, the one that the labels decide.
    """

    def __init__(
        self,
        name: str,
        tables: Mapping[str, Rows],
        task: str,
        options: DataOptions,
        *,
        digest: Callable[[], str],
        location: Callable[[str, int], str],
        label_names: Mapping[str, tuple[str, ...]] | None = None,
        notes: Sequence[str] = (),
        warnings: Sequence[str] = (),
        num_labels: int | None = None,
    ) -> None:
        self.name = name
        self._tables = dict(tables)
        self._location = location
        self._digest = digest
        self._refused_by: str | None = None
        sample = self._tables["train"].sample(_ROWS_TO_GUESS_FROM)
        column, found_splits = find_split_column(sample, options, name, is_split=len(self._tables) > 1)
        split_column, splits = self._split_by_column(column, options, found_splits)
        self._has_tags = task == "token_classification"
        is_stream = isinstance(self._tables["train"], StreamedRows)
        if split_column is not None:
            sample = self._tables["train"].sample(_ROWS_TO_GUESS_FROM)
        raw, refused = self._examine(sample, split_column, task, options)
        warnings = [*warnings, *found_splits, *refused]
        chosen = (options.text_column, options.target_column, options.label_column, options.pair_column)
        self._nesting = Nesting() if self._has_tags else find_nesting(raw, chosen)
        first = [item for row in raw[:_ROWS_TO_GUESS_FROM] for item in unfold(row, self._nesting)]
        examined = [*first, *(item for row in raw[_ROWS_TO_GUESS_FROM:] for item in unfold(row, self._nesting))]
        if not first:
            raise DataError(f"{name} has no rows.", "Expected rows of data.", "Check data.source and data.split.")
        place = functools.partial(self._location, "train")
        self._layout = self._find_layout(first, examined, task, options)
        if isinstance(self._layout, TagLayout):
            options = replace(options, text_column=self._layout.text, label_column=self._layout.tags)
            warnings = [*warnings, *self._layout.check_spans(map(flatten, self._tables["train"]), place)]
        if isinstance(self._layout, TurnLayout):
            warnings = [*warnings, *self._layout.warnings]
        if self._layout is not None:
            examined = [dict(row) for _, row in self._layout.convert(first, place)]  # only these are together
        chosen_columns = choose_columns(examined, task, options, name, num_labels)
        self.columns = replace(
            chosen_columns, warnings=(*map(one_line, map(redact, warnings)), *chosen_columns.warnings)
        )
        if isinstance(self._layout, TagLayout):
            filled = dict.fromkeys(key for row in raw for key, cell in flatten(row).items() if cell not in (None, ""))
            left = filled.keys() - self._layout.names
            self.columns = replace(self.columns, left_out=tuple(name for name in filled if name in left))
        if isinstance(self._layout, TurnLayout):
            self.columns = replace(self.columns, left_out=(*self.columns.left_out, *self._layout.left_out))
            notes = [*notes, f"Each row is a message: rows are joined to conversations by {self._layout.names[0]}."]
        if is_stream:
            chosen_from = counted(len(raw), "row")
            notes = [*notes, f"The columns are chosen from the first {chosen_from} of the stream, not from all."]
        self.task = _TASKS_OF_TARGETS[self.columns.targets] if task in TEXT_TASKS else task
        found = [note for note in (*notes, splits, self._nesting.note, self.columns.reason) if note]
        self.notes = tuple(map(one_line, map(redact, found)))  # they are published, and a URL may contain a password
        self.label_names = self._declared_names(label_names or {})
        self._drop_unlabelled_splits()
        names = self.columns.names() if self._layout is None else self._layout.names
        self._require_columns(_top_level(names, raw[0]))
        every = dict.fromkeys(name for row in raw for name in row)
        for rows in self._tables.values():
            rows.select(list(dict.fromkeys((*_top_level(names, every), *self._nesting.path[:1]))))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the dataset itself."""
        return tuple(name for name in SPLIT_NAMES if name in self._tables)

    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of ``split``."""
        for number, item in self._items(split):
            location = functools.partial(self._location, split, number)
            yield to_document(item, self.columns, location, has_tags=self._has_tags)

    def location(self, split: str, number: int) -> str:
        """Return the file, or split, and the row of a document."""
        if self._layout is not None or self._nesting.path or self.columns.verdict is not None:
            number = next(itertools.islice(self._items(split), number, None))[0]
        return self._location(split, number)

    def _examine(
        self, sample: Sequence[Row], split_column: str | None, task: str, options: DataOptions
    ) -> tuple[list[Row], list[str]]:
        """Return the rows that columns are chosen from; leave out what annotators refused, and say so."""
        raw = [_without(row, split_column) for row in sample]
        column = find_annotation(raw, options)
        if column is None:
            return raw, []
        train, needs_labels = self._tables["train"], task in TEXT_TASKS
        is_stream = isinstance(train, StreamedRows)  # to read all rows, all columns would have to be downloaded
        read = raw if is_stream else train
        warnings = warn_of_annotation(read, column, self.name, needs_labels=needs_labels, are_all=not is_stream)
        self._refused_by, location = column, self._location
        kept = {split: FilteredRows(rows, column, is_accepted) for split, rows in self._tables.items()}
        self._tables = dict(kept)
        self._location = lambda split, number: location(split, kept[split].place(number))
        raw = self._tables["train"].sample(_ROWS_TO_GUESS_FROM)
        return [_without(_without(row, split_column), column) for row in raw], warnings

    def _find_layout(
        self, first: Sequence[Row], examined: Sequence[Row], task: str, options: DataOptions
    ) -> TagLayout | TurnLayout | None:
        """Return how several rows, or the spans of one, become what is read; None if a row is read as it is."""
        if self._has_tags:
            chosen = {"text_column": options.text_column, "label_column": options.label_column}
            found = find_tag_layout(first, self.name, **chosen)
            return found or find_tag_layout(examined, self.name, **chosen)
        return find_turn_layout(first) if _may_hold_turns(task, options) and not self._nesting.path else None

    def _items(self, split: str) -> Iterator[tuple[int, Row]]:
        """Yield what documents are made of, each with the number of its first row."""
        rows: Iterable[tuple[int, Row]] = enumerate(self._tables[split])
        if self._layout is not None:
            rows = self._layout.convert(map(flatten, self._tables[split]), functools.partial(self._location, split))
        verdict = self.columns.verdict
        for number, row in rows:
            for item in unfold(row, self._nesting):
                if verdict is None or not is_refused(item, verdict):
                    yield number, item

    def digest(self) -> str:
        """Return the digest of the content, the columns and the splits."""
        refused = () if self._refused_by is None else (self._refused_by,)
        return hashlib.sha256(repr((self._digest(), self.columns, self.splits, *refused)).encode()).hexdigest()

    def _split_by_column(
        self, column: SplitColumn | None, options: DataOptions, warnings: list[str]
    ) -> tuple[str | None, str]:
        """Give each split its rows if a column names them; return the column and a sentence, or None.

        Raises:
            DataError: If the column names no split in a row.
        """
        if column is None:
            return None, ""
        if len(self._tables) > 1:
            return (column.name if column.is_sure else None), ""
        table, location, name = self._tables["train"], self._location, column.name
        counts = Counter[str]()
        for number, row in enumerate(table):
            split = column.split_of(row.get(name))
            if split is None and not column.is_sure:
                return None, ""
            if split is None:
                cell = "" if is_missing(row.get(name)) else str(row.get(name))[:60]
                raise DataError(
                    f"{location('train', number)}: the split (column {name}) is {cell!r}.",
                    f"Expected one of {column.words}.",
                    "Correct the row, or set data.split_column='' to draw the splits.",
                )
            counts[split] += 1
        found = ", ".join(f"{split} {counts[split]}" for split in SPLIT_NAMES if split in counts)
        if "train" not in counts or len(counts) == 1 or options.split not in (None, *counts):
            if column.is_sure and len(counts) > 1:
                warnings.append(f"Column {name} has no rows for train ({found}): the splits are drawn from all rows.")
            return (name if column.is_sure else None), ""
        parts = {split: _rows_of_split(table, column, split) for split in SPLIT_NAMES if split in counts}
        if options.split is not None:
            parts = {"train": parts[options.split]}
        self._tables = dict(parts)
        self._location = lambda split, number: location("train", parts[split].place(number))
        return name, f"Column {name} gives the split of each row: {found}."

    def _require_columns(self, names: list[str]) -> None:
        """Refuse a split that lacks a column in all of its first rows: its texts would be empty."""
        for split in self.splits:
            found = {name for row in self._tables[split].head(_ROWS_TO_GUESS_FROM) for name in row}
            missing = [name for name in names if name not in found]
            if missing:
                raise DataError(
                    f"The {split} split of {self.name} has no column {short_list(missing)}; it has"
                    f" {short_list(sorted(found))}.",
                    f"Expected the columns of the train split: {short_list(names)}.",
                    "Rename the columns, or set data.split=train to leave the split out.",
                )

    def _declared_names(self, declared: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
        """Return the names of the classes that the table declares; of lists of 0 and 1, their numbers."""
        names = declared.get(self.columns.label or "")
        if self.columns.targets == "columns":
            return self.columns.flags
        if self.columns.targets == "flags" and len(names or ()) != self.columns.flag_count:
            return tuple(map(str, range(self.columns.flag_count)))
        return None if self.columns.targets == "number" else names

    def _drop_unlabelled_splits(self) -> None:
        for split in [name for name in self.splits if name != "train"]:
            first = self._tables[split].head(1)
            if not first:
                _log.info("The %s split of %s has no rows: it is taken from the train split.", split, self.name)
                del self._tables[split]
            elif self._is_unlabelled(split):
                _log.info("The %s split of %s has no labels and is not used.", split, self.name)
                del self._tables[split]

    def _is_unlabelled(self, split: str) -> bool:
        """Return whether no row of a split has a label; -1 may be a number to predict, unless all are -1."""
        columns, table = self.columns, self._tables[split]
        names = columns.flags if columns.targets == "columns" else (columns.label,)
        if None in names or columns.targets not in ("columns", "class", "number"):
            return False
        rest: Iterable[Row] = () if isinstance(table, StreamedRows) else table
        for row in itertools.chain(table.head(_ROWS_TO_GUESS_FROM), rest):  # nearly always, the first row decides
            cells = [flatten(row).get(str(name)) for name in names]
            if columns.targets == "columns" and any(read_flag(cell) != _NO_LABEL for cell in cells):
                return False
            if columns.targets != "columns" and cells[0] not in (None, _NO_LABEL):
                return False
        return True


def _rows_of_split(table: Rows, column: SplitColumn, split: str) -> FilteredRows:
    return FilteredRows(table, column.name, lambda cell: column.split_of(cell) == split)


def _without(row: Row, column: str | None) -> Row:
    return {name: cell for name, cell in row.items() if name != column}


def _may_hold_turns(task: str, options: DataOptions) -> bool:
    named = (options.text_column, options.target_column, options.template, options.vocab_size)
    return task in ("causal_lm", "seq2seq_lm") and not any(named) and not options.span_corruption


def _top_level(names: Sequence[str], row: Row) -> list[str]:
    """Return the columns of the table to read: ``translation`` for ``translation.en``."""
    tops = (name if name in row else name.split(".", 1)[0] for name in names)
    return list(dict.fromkeys(name for name in tops if name in row))
