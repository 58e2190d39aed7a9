"""Preparation of a corpus: rows of tokens on the disk."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.document import SPLIT_NAMES, Document
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
from transformer_foundry.core.data.tokenizer.train import choose_max_length, usable_vocab_size
from transformer_foundry.core.system.process import is_running

if TYPE_CHECKING:
    from transformer_foundry.core.models.contract import Contract

__all__ = ["prepare_splits"]

_log = logging.getLogger(__name__)

_BATCH_DOCUMENTS = 512
_BATCH_CHARACTERS = 2**20  # whichever comes first: an encoded text takes about 50 bytes per character
_TEMPORARY = "token-splits-"


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
        previous: An earlier preparation, returned if its fingerprint is the same.

    Raises:
        DataError: If the tokenizer has more ids than the model, there is too little text, or the disk is full.
    """
    max_length = choose_max_length(contract, options)
    _check_vocabulary(tokenizer, contract)
    fingerprint = _fingerprint(corpus, tokenizer, max_length)
    if previous is not None and previous.fingerprint == fingerprint:
        _log.info("Nothing has changed: the tokens of the earlier preparation are used.")
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
            index: Index = {
                "fingerprint": fingerprint,
                "data_folder": data_folder.name,
                "task": corpus.task,
                "vocab_size": tokenizer.vocab_size,
                "max_length": max_length,
                "special": tokenizer.special.__dict__,
                "tokenizer": tokenizer.digest(),
                "label_names": corpus.label_names,
                "source": corpus.name,
                "notes": _notes(corpus, tokenizer, contract),
                "texts": _describe_texts(corpus),
                "splits": _write_splits(corpus, tokenizer, max_length, data_folder),
                "baselines": {},
            }
            index["baselines"] = measure_baselines(map_splits(index, folder))
            write_index(folder, index)
    except BaseException:  # also on an interrupt: no half-written folder may remain
        shutil.rmtree(folder if is_temporary else data_folder, ignore_errors=True)
        raise
    return load_splits(folder)


def _write_splits(corpus: Corpus, tokenizer: Tokenizer, max_length: int, folder: Path) -> dict[str, SplitEntry]:
    """Write all splits in one pass over the source and return the entry of each in the index."""
    writers = {
        name: open_writer(corpus.task, folder, name, tokenizer, max_length, corrupts_spans=corpus.corrupts_spans)
        for name in SPLIT_NAMES
    }
    for name, documents in _batches(corpus):
        writers[name].add(documents)
    return {name: writer.close() for name, writer in writers.items()}


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
    """Make a folder named after this process, and remove those of processes that no longer run."""
    root = Path(tempfile.gettempdir())
    for entry in root.glob(f"{_TEMPORARY}*"):
        owner = re.fullmatch(rf"{_TEMPORARY}(\d+)-.*", entry.name)
        if owner and not is_running(int(owner.group(1))):
            shutil.rmtree(entry, ignore_errors=True)
    with explain_write_errors(root):
        return Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-"))


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
    notes, vocab_size, assignment = [f"What is read: {corpus.columns}."], usable_vocab_size(contract), corpus.assignment
    if corpus.corrupts_spans:
        notes.append("The data have no pairs: the model learns to fill in hidden spans, as T5 does.")
    if tokenizer.vocab_size < vocab_size:
        why = "it was not trained here" if tokenizer.algorithm == "given" else "the text needs no more"
        notes.append(f"The tokenizer has {tokenizer.vocab_size} of the model's {vocab_size} tokens: {why}.")
    classes = len(corpus.label_names or ())
    if contract.num_labels is not None and 0 < classes < contract.num_labels:
        notes.append(f"The data have {classes} classes, the model has {contract.num_labels}.")
    if assignment.leaks:
        notes.append(f"{assignment.leaks} training texts that are also in a held-out split were dropped.")
    if assignment.empty:
        notes.append(f"{assignment.empty} rows without text were dropped.")
    if assignment.dropped_duplicates:
        notes.append(f"{assignment.dropped_duplicates} texts that are nearly the same as another were dropped.")
    return notes


def _describe_texts(corpus: Corpus) -> dict[str, Any]:
    assignment = corpus.assignment
    return {
        "columns": str(corpus.columns),
        "documents": sum(assignment.counts.values()),
        "empty": assignment.empty,
        "repeats": assignment.repeats,
        "near_duplicates": assignment.near_duplicates,
        "near_leaks": assignment.near_leaks,
        "leaks": assignment.leaks,
        "dropped_duplicates": assignment.dropped_duplicates,
        **assignment.text_quality,
    }
