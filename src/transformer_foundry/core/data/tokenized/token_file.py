"""Training data from a binary file of token ids."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenized.memmap import RaggedArray
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

__all__ = ["read_token_file"]


def read_token_file(
    path: str | Path, *, vocab_size: int, length: int, dtype: npt.DTypeLike = np.uint16, validation_share: float = 0.05
) -> TokenSplits:
    """Return the tokens of a raw binary file as data of a causal language model, memory-mapped.

    Args:
        path: File of consecutive ids without a header, as ``numpy.ndarray.tofile`` writes them (nanoGPT's format).
        vocab_size: Number of ids of the tokenizer.
        length: Tokens of a row; consecutive rows share one token, so each token except the first is a target once.
        dtype: Of the file.
        validation_share: Share of the rows, at the end of the file, for validation, in [0, 1).

    Raises:
        DataError: If there is no such file, it has less than one row, or an id is out of range.

    Example:
        >>> splits = read_token_file("train.bin", vocab_size=50257, length=1024)  # doctest: +SKIP
        >>> for record in fit(adapt(model), splits, TrainingOptions(max_steps=1000)):  # doctest: +SKIP
        ...     print(record)
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Expected a file of token ids.", "Check the path.")
    size = np.dtype(dtype).itemsize
    if path.stat().st_size < length * size or path.stat().st_size % size:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes.",
            f"Expected at least {length} ids of {size} bytes each ({np.dtype(dtype).name}).",
            "Set dtype to that of the file, or a smaller length.",
        )
    values = np.memmap(path, dtype=dtype, mode="r")
    _require_range(path, values, vocab_size)
    starts = np.arange(0, len(values) - length + 1, length - 1, dtype=np.int64)
    validation_rows = round(len(starts) * validation_share)
    train_rows = len(starts) - validation_rows
    return TokenSplits(
        train=_split("train", values, starts[:train_rows], length),
        validation=_split("validation", values, starts[train_rows:], length),
        test=_split("test", values, starts[:0], length),
        task="causal_lm",
        vocab_size=vocab_size,
        max_length=length,
        fingerprint=_fingerprint(path, f"{np.dtype(dtype).name} {length} {validation_share}"),
        special=SpecialIds(),
        source=str(path),
    )


def _split(name: str, values: np.ndarray, starts: np.ndarray, length: int) -> TokenSplit:
    ends = starts[-1:] + length - 1 if len(starts) else np.zeros(1, np.int64)
    return TokenSplit(name, RaggedArray(values, np.concatenate([starts, ends]), overlap=1), documents=1)


def _require_range(path: Path, values: np.ndarray, vocab_size: int) -> None:
    largest = max((int(values[start : start + 2**24].max()) for start in range(0, len(values), 2**24)), default=0)
    if largest >= vocab_size:
        raise DataError(
            f"{path} has the id {largest}, but the vocabulary has {vocab_size} ids.",
            f"Expected ids from 0 to {vocab_size - 1}.",
            "Set vocab_size to that of the tokenizer of the file, or dtype to that of the file.",
        )


def _fingerprint(path: Path, settings: str) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(settings.encode())
    return digest.hexdigest()
