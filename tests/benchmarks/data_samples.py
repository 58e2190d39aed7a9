"""Generated text for the benchmarks of the data: real words with their real frequencies, documents of all lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transformer_foundry.core.data.sources.built_in.python_text import PythonText
from transformer_foundry.core.models import Contract

_WORDS_AT_ONCE = 20_000


def documents(size_bytes: int, seed: int = 0) -> Iterator[str]:
    """Yield texts of 600 characters in the median, words drawn from the built-in text, ``size_bytes`` in all."""
    random = np.random.default_rng(seed)
    words = " ".join(document.text for document in PythonText("causal_lm").documents("train")).split()
    made = 0
    while made < size_bytes:
        drawn = random.integers(0, len(words), _WORDS_AT_ONCE).tolist()
        start = 0
        while start < _WORDS_AT_ONCE:
            length = int(random.lognormal(4.6, 1.0)) + 5
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
