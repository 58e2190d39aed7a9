"""Open what ``data.source`` names: local files, a URL or a dataset of the Hub."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.columns.prompts.direction import is_written_from
from transformer_foundry.core.data.document import SPLIT_NAMES
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.files.formats import TEXTS
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.plain_text import choose_document
from transformer_foundry.core.data.sources.files.sniff import ending_of
from transformer_foundry.core.data.sources.files.stored.spreadsheet import visible_sheets
from transformer_foundry.core.data.sources.folders import splits_of_tables
from transformer_foundry.core.data.sources.local_files import digest_files, find_files, looks_like_local_path, markup_in
from transformer_foundry.core.data.sources.remote import (
    LINES,
    STREAMED,
    download,
    download_lines,
    open_remote,
    require_readable_address,
)
from transformer_foundry.core.data.sources.rows import LocalRows
from transformer_foundry.core.data.sources.table_source import TableSource
from transformer_foundry.core.models.options import TEXT_TASKS

__all__ = ["open_table_source"]

_FEW_TWINS = 3
_DOCUMENTS = {"marked": "the text between two marks", "stamped": "a message"}
_LABELLED_TASKS = (*TEXT_TASKS, "token_classification")


def open_table_source(options: DataOptions, task: str, num_labels: int | None = None) -> TableSource:
    """Open the local path, URL or Hub dataset of ``data.source``.

    Args:
        options: The section ``data``.
        task: The task of the model.
        num_labels: Number of outputs of a model of texts; None if it is unknown.

    Raises:
        DataError: If it cannot be read, or its columns do not fit the task.
    """
    if "://" in options.source:
        require_readable_address(options.source)
        if options.streaming and options.source.partition("?")[0].lower().endswith(LINES):
            return _open_local(options, task, num_labels, download_lines(options))
        builder = STREAMED.get(ending_of(options.source)) if options.streaming else None
        if builder:
            return open_remote(options, task, num_labels, builder)
        return _open_local(options, task, num_labels, download(options))
    if looks_like_local_path(options.source):
        return _open_local(options, task, num_labels)
    return open_remote(options, task, num_labels, None)


def _open_local(options: DataOptions, task: str, num_labels: int | None, path: str | None = None) -> TableSource:
    """Open a local path; ``path`` is where a URL was downloaded to."""
    found = find_files(path or options.source, options, task, shown=options.source if path else None)
    files = found.splits
    if options.split is not None and options.split not in files:
        raise DataError(
            f"data.split is {options.split}, but {options.source} has: {', '.join(files)}.",
            "Expected one of them, or null.",
            "Set data.split to null; to use a part of the data, set data.max_documents.",
        )
    if options.split is not None:
        files = {"train": files[options.split]}
    is_text = files["train"][0].kind.format in TEXTS
    needs_pairs = task == "seq2seq_lm" and options.span_corruption is False
    has_labels = task == "sequence_classification" and files["train"][0].label is not None
    needs_pairs = needs_pairs and files["train"][0].partner is None
    if is_text and not has_labels and (task in _LABELLED_TASKS or needs_pairs):
        raise _plain_text_error(files["train"][0], options, task, "targets" if needs_pairs else "labels")
    notes = []
    document = "row"
    if is_text:
        document, reason = options.document, "data.document sets it"
        if document == "auto":
            document, reason = choose_document(files["train"])
        notes.append(f"One text is {_DOCUMENTS.get(document, f'a {document}')} of {options.source}: {reason}.")
    parts = _parts(files, options) if document == "file" else {}
    tables = {split: LocalRows(paths, options, document, parts.get(split, (0, 1))) for split, paths in files.items()}
    tables |= {split: LocalRows(files["train"], options, document, part) for split, part in parts.items()}
    sheets = _sheets_of_splits(files, options)
    if sheets:
        tables = {split: LocalRows(files["train"], replace(options, table=name)) for split, name in sheets.items()}
        given = ", ".join(f"{split} is sheet {name}" for split, name in sheets.items())
        notes.append(f"The names of sheets give the splits: {given}.")
    settings = (document, options.header, options.columns, sheets or options.table, options.encoding)
    try:
        return TableSource(
            options.source,
            tables,
            task,
            options,
            digest=lambda: repr((digest_files(itertools.chain.from_iterable(files.values())), settings)),
            location=lambda split, number: tables[split].location(number),
            label_names=tables["train"].label_names,
            notes=[*notes, *tables["train"].notes, *found.notes],
            warnings=[*found.warnings, *_warn_of_twins(files, task, options), *tables["train"].warnings],
            num_labels=num_labels,
        )
    except DataError as err:
        hint = tables["train"].hint
        if not hint:
            raise
        raise DataError(err.problem, err.expected, f"{hint} {err.remedy}") from err


def _plain_text_error(first: DataFile, options: DataOptions, task: str, missing: str) -> DataError:
    """Return the error of texts where a table is needed; of a table as a program prints it, with its export."""
    kind = markup_in(first) if first.kind.format == "text" else None
    if kind is not None:
        return DataError(
            f"{first.shown} is {kind.what}, read as plain text, which has no {missing}.",
            f"Expected a table, such as csv or jsonl, for the task {task}.",
            f"{kind.remedy[0].upper()}{kind.remedy[1:]}; model.task=causal_lm reads it as text.",
        )
    return DataError(
        f"{options.source} is plain text, which has no {missing}.",
        f"Expected a table, such as csv or jsonl, for the task {task}.",
        "Set data.source to a table, or a folder with a folder of texts for each class; data.document=row reads"
        " lines as a table, model.task=causal_lm as text.",
    )


def _warn_of_twins(files: Mapping[str, list[DataFile]], task: str, options: DataOptions) -> list[str]:
    """Return a sentence if two folders hold texts of equal names, such as articles and their summaries."""
    if task != "seq2seq_lm" or options.span_corruption is not None or files["train"][0].kind.format != "text":
        return []
    found = defaultdict[tuple[str, ...], defaultdict[str, set[tuple[str, ...]]]](lambda: defaultdict(set))
    for file in itertools.chain.from_iterable(files.values()):
        parts = Path(file.shown).parts
        for place in range(len(parts) - 1):
            found[parts[:place]][parts[place]].add(parts[place + 1 :])
    for folders in found.values():
        for one, other in itertools.permutations(folders, 2) if len(folders) == 2 else ():
            if len(folders[one]) >= _FEW_TWINS and folders[one] == folders[other] and is_written_from(one, other):
                return [
                    f"The folders {one} and {other} of {options.source} hold files of equal names, which may be"
                    " texts and their targets, and are read as texts alone: write a table with a row for each pair, or"
                    " set data.span_corruption=true."
                ]
    return []


def _sheets_of_splits(files: Mapping[str, list[DataFile]], options: DataOptions) -> dict[str, str]:
    """Return split -> sheet of a single spreadsheet whose sheets are called after their splits; else nothing."""
    first = files["train"][0]
    if len(files) > 1 or len(files["train"]) > 1 or first.kind.format != "xlsx" or options.table is not None:
        return {}
    found = splits_of_tables(visible_sheets(first))
    return {split: found[split] for split in SPLIT_NAMES if split in found and options.split in (None, split)}


def _parts(files: Mapping[str, list[DataFile]], options: DataOptions) -> dict[str, tuple[float, float]]:
    """Return which part of a single file each split reads if the whole file is one text: its end is held out."""
    if len(files) > 1 or len(files["train"]) > 1:
        return {}
    first, second = 1 - options.validation_share - options.test_share, 1 - options.test_share
    parts = {"train": (0.0, first), "validation": (first, second), "test": (second, 1.0)}
    return {split: part for split, part in parts.items() if part[0] < part[1]}
