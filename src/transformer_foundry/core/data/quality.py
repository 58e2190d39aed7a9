"""What is in the data: a profile for people, written as plain values."""

from __future__ import annotations

from typing import Any

from transformer_foundry.core.data.splits import TokenSplits
from transformer_foundry.core.data.tokenizers import Tokenizer

__all__ = ["profile_splits"]


def profile_splits(splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the profile of prepared data, ready for json."""
    return {
        "source": splits.source,
        "task": splits.task,
        "vocab_size": tokenizer.vocab_size,
        "baselines": splits.baselines,
    }
