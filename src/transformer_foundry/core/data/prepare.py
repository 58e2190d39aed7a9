"""Preparation of a corpus: rows of tokens on the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.corpus.label_checks import find_look_alikes
from transformer_foundry.core.data.document import SPLIT_NAMES, STREAM_COLUMN, Document
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.profile.baselines import measure_baselines
from transformer_foundry.core.data.tokenized.dataset import (
    FORMAT_VERSION,
    Index,
    SplitEntry,
    TokenSplits,
    find_splits,
    load_splits,
    map_splits,
    write_index,
)
from transformer_foundry.core.data.tokenized.memmap import explain_write_errors
from transformer_foundry.core.data.tokenized.writers import open_writer
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.data.tokenizer.train import choose_max_length, is_trained_for, usable_vocab_size
from transformer_foundry.core.system.process import make_build_folder

if TYPE_CHECKING:
    from transformer_foundry.core.models.contract import Contract

__all__ = ["is_prepared", "prepare_splits"]


_BATCH_DOCUMENTS = 512
_BATCH_CHARACTERS = 2**20  # whichever comes first: an encoded text takes about 50 bytes per character
_TEMPORARY = "token-splits"
_MANY_LEAKS = 0.02  # of the training texts
_MANY_EMPTY = 0.1  # of the rows


def prepare_splits(
    corpus: Corpus,
    tokenizer: Tokenizer,
    contract: Contract,
    options: DataOptions,
    folder: str | Path | None = None,
    *,
    previous: TokenSplits | None = None,
) -> TokenSplits:
    """Tokenize every split of ``corpus`` into memory-mapped rows, measure the baselines, write the index last.

    Args:
        corpus: The documents.
        tokenizer: The tokenizer of the model.
        contract: The model's task and sizes.
        options: Only ``max_length`` is used; the rest is already in ``corpus`` and ``tokenizer``.
        folder: Folder to write to; None makes a temporary folder, from which a Kedro dataset copies. If it already
            contains this preparation, nothing is written.
        previous: An earlier preparation, returned if its fingerprint is the same, or its rows are: a run that was
            trained on it continues under a version of this library that prepares the data in another way.

    Raises:
        DataError: If the tokenizer has more ids than the model, there is too little text, or the disk is full.
    """
    max_length = choose_max_length(contract, options)
    _check_vocabulary(tokenizer, contract)
    fingerprint = _fingerprint(corpus, tokenizer, max_length)
    if previous is not None and previous.is_made_by(fingerprint):
        return previous
    is_temporary = folder is None
    folder = _make_temporary_folder() if folder is None else Path(folder)
    found = find_splits(folder, fingerprint)
    if found is not None:
        return found
    data_folder = folder / fingerprint[:16]
    try:
        with explain_write_errors(folder):
            shutil.rmtree(data_folder, ignore_errors=True)
            data_folder.mkdir(parents=True)
            index = _write_rows(corpus, tokenizer, contract, max_length, fingerprint, data_folder)
            index["baselines"] = measure_baselines(map_splits(index, folder))
            write_index(folder, index)
    except BaseException:  # also on an interrupt: no half-written folder may remain
        shutil.rmtree(folder if is_temporary else data_folder, ignore_errors=True)
        raise
    made = load_splits(folder)
    if previous is not None and previous.has_rows_of(made):
        if is_temporary:
            shutil.rmtree(folder, ignore_errors=True)
        return dataclasses.replace(previous, recipes=(*previous.recipes, fingerprint))
    return made


def is_prepared(
    corpus: Corpus, contract: Contract, options: DataOptions, tokenizer: Tokenizer | None, splits: TokenSplits | None
) -> bool:
    """Return whether a tokenizer and splits of an earlier preparation are what preparing ``corpus`` now would make."""
    if tokenizer is None or splits is None or not is_trained_for(tokenizer, corpus, contract, options):
        return False
    return splits.is_made_by(_fingerprint(corpus, tokenizer, choose_max_length(contract, options)))


def _write_rows(
    corpus: Corpus, tokenizer: Tokenizer, contract: Contract, max_length: int, fingerprint: str, folder: Path
) -> Index:
    """Write the rows of all splits and return the index, still without baselines."""
    return {
        "fingerprint": fingerprint,
        "data_folder": folder.name,
        "task": corpus.task,
        "vocab_size": tokenizer.vocab_size,
        "max_length": max_length,
        "special": tokenizer.special.__dict__,
        "tokenizer": tokenizer.digest(),
        "label_names": corpus.label_names,
        "source": corpus.name,
        "notes": _notes(corpus, tokenizer, contract),
        "texts": _describe_texts(corpus),
        "splits": _write_splits(corpus, tokenizer, max_length, folder),
        "baselines": {},
    }


def _write_splits(corpus: Corpus, tokenizer: Tokenizer, max_length: int, folder: Path) -> dict[str, SplitEntry]:
    """Write all splits in one pass over the source and return the entry of each in the index."""
    writers = {
        name: open_writer(
            corpus.task,
            folder,
            name,
            tokenizer,
            max_length,
            corrupts_spans=corpus.corrupts_spans,
            learns_answers=corpus.columns.learned != "all",
            is_stream=corpus.columns.text == STREAM_COLUMN,
            label_count=len(corpus.label_names or ()),
        )
        for name in SPLIT_NAMES
    }
    for name, documents in _batches(corpus):
        writers[name].add(documents)
    entries = {name: writer.close() for name, writer in writers.items()}
    if corpus.columns.vocab_size is not None:  # no text, so no bits per byte of it
        entries = {name: {**entry, "text_bytes": 0} for name, entry in entries.items()}
    return entries


def _batches(corpus: Corpus) -> Iterator[tuple[str, list[Document]]]:
    waiting: dict[str, list[Document]] = {name: [] for name in SPLIT_NAMES}
    characters = dict.fromkeys(SPLIT_NAMES, 0)
    for name, document in corpus.all_documents():
        waiting[name].append(document)
        characters[name] += len(document.text)
        if len(waiting[name]) >= _BATCH_DOCUMENTS or characters[name] >= _BATCH_CHARACTERS:
            yield name, waiting[name]
            waiting[name], characters[name] = [], 0
    yield from ((name, documents) for name, documents in waiting.items() if documents)


def _make_temporary_folder() -> Path:
    with explain_write_errors(Path(tempfile.gettempdir())):
        return make_build_folder(_TEMPORARY)


def _check_vocabulary(tokenizer: Tokenizer, contract: Contract) -> None:
    vocab_size = usable_vocab_size(contract)
    if tokenizer.vocab_size > vocab_size:
        raise DataError(
            f"The tokenizer has {tokenizer.vocab_size} tokens but the model only {vocab_size}.",
            f"Expected at most {vocab_size}.",
            "Run the data_engineering pipeline for this model, or set data.tokenizer to 'auto'.",
        )


def _fingerprint(corpus: Corpus, tokenizer: Tokenizer, max_length: int) -> str:
    parts = (FORMAT_VERSION, corpus.digest(), tokenizer.digest(), max_length)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _notes(corpus: Corpus, tokenizer: Tokenizer, contract: Contract) -> list[str]:
    notes = [f"What is read: {corpus.columns}.", *corpus.source.notes]
    vocab_size, assignment = usable_vocab_size(contract), corpus.assignment
    if corpus.columns.template is not None:
        notes.append(f"Template: {corpus.columns.template!r}.")
    if corpus.columns.learned == "answers":
        notes.append(f"Only the answers (column {corpus.columns.target}) count in the loss.")
    if corpus.columns.learned == "weighted":
        notes.append("Messages whose weight is 0 are read, but do not count in the loss.")
    if corpus.corrupts_spans:
        notes.append("The data have no pairs: the model learns to fill in hidden spans, as T5 does.")
    if corpus.columns.vocab_size is not None:
        end = "" if tokenizer.eos_token_id is None else f"; id {tokenizer.eos_token_id} is added at the end of each"
        adds_end = corpus.columns.text != STREAM_COLUMN and not corpus.task.endswith("classification")
        notes.append(f"Token ids are used as they are{end if adds_end else ''}.")
    elif tokenizer.vocab_size < vocab_size:
        why = "it was not trained here" if tokenizer.algorithm == "given" else "the text needs no more"
        notes.append(f"The tokenizer has {tokenizer.vocab_size} of the model's {vocab_size} tokens: {why}.")
    classes = len(corpus.label_names or ())
    if contract.num_labels is not None and 0 < classes < contract.num_labels:
        notes.append(
            f"The data have {classes} class{'es' * (classes > 1)}, the model has {contract.num_labels} outputs."
        )
    if 0 < assignment.leaks <= _MANY_LEAKS * assignment.counts["train"]:
        notes.append(f"{assignment.leaks} training texts that are also in a held-out split were dropped.")
    without_text = assignment.empty - assignment.without_target
    if without_text:
        what = "an answer" if corpus.columns.learned == "answers" else "text"
        notes.append(f"{counted(without_text, 'row')} without {what} {_were(without_text)} dropped.")
    if assignment.without_target:
        dropped = f"{counted(assignment.without_target, 'row')} without a target (column {corpus.columns.target})"
        notes.append(f"{dropped} {_were(assignment.without_target)} dropped.")
    if assignment.dropped_duplicates:
        notes.append(f"{assignment.dropped_duplicates} texts that are nearly the same as another were dropped.")
    return notes


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _warnings(corpus: Corpus) -> list[str]:
    assignment, names = corpus.assignment, corpus.label_names or ()
    found = [*corpus.columns.warnings, find_look_alikes(names), assignment.label_leak]
    if assignment.leaks > _MANY_LEAKS * assignment.counts["train"]:
        dropped = f"{assignment.leaks} training texts that are also in a held-out split were dropped"
        found.append(f"{dropped}; {assignment.counts['train']} are left.")
    if assignment.shared:
        texts, are = counted(assignment.shared, "validation text"), "is" if assignment.shared == 1 else "are"
        found.append(f"{texts} {are} also in the test split: the test looks too good.")
    if assignment.empty > _MANY_EMPTY * (assignment.empty + sum(assignment.counts.values())):
        has, were = "has" if assignment.empty == 1 else "have", _were(assignment.empty)
        lacking = (
            f"lack{'s' * (assignment.empty == 1)} a text or its target" if corpus.columns.target else f"{has} no text"
        )
        found.append(f"{counted(assignment.empty, 'row')} {lacking} and {were} dropped: is it in another column?")
    return [warning for warning in found if warning]


def _describe_texts(corpus: Corpus) -> dict[str, Any]:
    assignment = corpus.assignment
    return {
        "columns": str(corpus.columns),
        "template": corpus.columns.template,
        "has_pairs": corpus.columns.pair is not None,
        "warnings": _warnings(corpus),
        "documents": sum(assignment.counts.values()),
        "empty": assignment.empty,
        "repeats": assignment.repeats,
        "near_duplicates": assignment.near_duplicates,
        "near_leaks": assignment.near_leaks,
        "leaks": assignment.leaks,
        "contradictions": assignment.contradictions,
        "dropped_duplicates": assignment.dropped_duplicates,
        **assignment.text_quality,
    }
