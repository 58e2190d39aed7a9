"""Tokenise and pack against ``datasets.map`` and grouping as transformers' run_clm example does: CPU time, fill, loss.

python -m tests.benchmarks.data_preparation [MEGABYTES]
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.benchmarks.data_samples import contract, write_jsonl
from transformer_foundry.core.data import (
    DataOptions,
    Tokenizer,
    TokenSplits,
    fit_tokenizer,
    prepare_splits,
    read_corpus,
)
from transformer_foundry.core.data.tokenized.packing import block_offsets
from transformer_foundry.core.data.tokenized.writers import open_writer

_BLOCK = 128
_ROUNDS = 3


def group_like_run_clm(file: Path, tokenizer_folder: Path, cache: Path) -> tuple[int, int]:
    """Map a tokenizer over the file, join and cut into blocks; return tokens before and after."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.model_max_length = 10**9  # else it warns about each long text

    def tokenize(batch: dict[str, list[Any]]) -> Any:
        return tokenizer(batch["text"])

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {name: list(itertools.chain(*rows)) for name, rows in batch.items()}
        length = len(joined["input_ids"]) // _BLOCK * _BLOCK
        blocks = {
            name: [tokens[start : start + _BLOCK] for start in range(0, length, _BLOCK)]
            for name, tokens in joined.items()
        }
        return {**blocks, "labels": blocks["input_ids"].copy()}

    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(cache))
    tokens = rows.map(tokenize, batched=True, remove_columns=["text"])
    blocks = tokens.map(group, batched=True)
    return sum(map(len, tokens["input_ids"])), _BLOCK * len(blocks)


def only_tokens(file: Path, tokenizer: Tokenizer, folder: Path) -> tuple[int, int]:
    """Read, tokenise and pack with our writer, and nothing else: what run_clm does."""
    from transformer_foundry.core.data.document import Document
    from transformer_foundry.core.data.sources.local_files import find_files
    from transformer_foundry.core.data.sources.rows import LocalRows

    writer = open_writer("causal_lm", folder, "train", tokenizer, _BLOCK, corrupts_spans=False)
    options = DataOptions(source=str(file))
    rows = iter(LocalRows(find_files(options.source, options).splits["train"], options))
    while batch := [Document(row["text"]) for row in itertools.islice(rows, 512)]:
        writer.add(batch)
    tokens = writer.close()["counts"]["tokens"]
    return tokens, int(block_offsets(tokens, _BLOCK, 1)[-1]) + 1


def everything(file: Path, tokenizer: Tokenizer, folder: Path) -> TokenSplits:
    """Prepare as a user does: hash, find near-duplicates, look at the texts, split, tokenise, pack, baselines."""
    options = DataOptions(source=str(file))
    return prepare_splits(read_corpus(options, "causal_lm"), tokenizer, contract(), options, folder)


def main() -> None:
    """Print the least CPU time of three interleaved rounds of each."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_jsonl(folder / "text.jsonl", megabytes * 10**6)
        options = DataOptions(source=str(file))
        tokenizer = fit_tokenizer(read_corpus(options, "causal_lm"), contract(), options)
        tokenizer.save(folder / "tokenizer")
        ways = {
            "datasets.map + grouping": lambda at: group_like_run_clm(file, folder / "tokenizer", at),
            "tokenise and pack": lambda at: only_tokens(file, tokenizer, at),
            "whole preparation": lambda at: everything(file, tokenizer, at),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(_ROUNDS):
            for way, run in ways.items():
                (folder / f"{way} {turn}").mkdir()
                before = time.process_time()
                found = run(folder / f"{way} {turn}")
                times[way].append(time.process_time() - before)
                if turn == 0 and isinstance(found, tuple):
                    print(f"{way:<26} tokens {found[0]:>10}, in rows {found[1]:>10}, lost {found[0] - found[1]}")
                elif turn == 0:
                    lengths = found.train.input_ids.lengths()
                    cut = found.train.counts["cut_documents"]
                    print(f"{way:<26} fill {lengths.mean() / _BLOCK:.4%}, short documents cut {cut}", end=" ")
                    print(f"of {found.train.documents}")
    base = min(times["datasets.map + grouping"])
    for way, seconds in times.items():
        print(f"{way:<26} {min(seconds):7.1f} s CPU  {base / min(seconds):5.2f}x")


if __name__ == "__main__":
    main()
