"""Generated text for the benchmarks of the data: words with the frequencies of a language, documents of all lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transformer_foundry.core.exports import Contract

_WORDS = 30_000
_WORDS_AT_ONCE = 20_000


def documents(size_bytes: int, seed: int = 0) -> Iterator[str]:
    """Yield texts of 600 characters in the median until there are ``size_bytes``; word frequencies follow Zipf."""
    random = np.random.default_rng(seed)
    letters = random.integers(97, 123, (_WORDS, 10), dtype=np.uint8)
    words = [bytes(row[: random.integers(2, 11)]).decode() for row in letters]
    shares = 1 / np.arange(1, _WORDS + 1) ** 1.05
    made = 0
    while made < size_bytes:
        drawn = random.choice(_WORDS, _WORDS_AT_ONCE, p=shares / shares.sum()).tolist()
        start = 0
        while start < _WORDS_AT_ONCE:
            length = int(random.lognormal(4.5, 1.0)) + 5
            text = " ".join(words[number] for number in drawn[start : start + length])
            start, made = start + length, made + len(text)
            yield text


def write_jsonl(path: Path, size_bytes: int) -> Path:
    """Write a file of about ``size_bytes``."""
    with path.open("w", encoding="utf-8") as file:
        for text in documents(size_bytes):
            file.write(json.dumps({"text": text}) + "\n")
    return path


def contract(task: str = "causal_lm", vocab_size: int = 8192, max_length: int = 128) -> Contract:
    """A model of these sizes, without the model."""
    kind = {"causal_lm": "decoder-only", "seq2seq_lm": "encoder-decoder"}.get(task, "encoder-only")
    sizes = {"vocab_size": vocab_size, "output_size": vocab_size, "max_length": max_length}
    return Contract(kind=kind, task=task, ids_argument="input_ids", **sizes)
