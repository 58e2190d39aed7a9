"""Cache of encoded words: most words of a text have occurred before.

A byte-level BPE with the pattern of GPT-2 never merges a character with a space after it, so a text can be cut before
each space that follows another character, and its pieces can be encoded one by one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

__all__ = ["WordCache"]

_CUT = re.compile(r"(?<=\S)(?= )")
_LONGEST_WORD = 64  # characters; longer pieces rarely occur again
_MOST_WORDS = 2**17  # about 30 MB


class WordCache:
    """Ids of words seen before; returns the same ids as the tokenizer.

    Args:
        backend: A tokenizer for which ``supports`` is true.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._ids: dict[str, list[int]] = {}

    @staticmethod
    def supports(backend: tokenizers.Tokenizer) -> bool:
        """Return whether texts can be cut before spaces: byte-level BPE, no normalizer, added tokens all special."""
        config = json.loads(backend.to_str())
        split = config["pre_tokenizer"] or {}
        return (
            config["model"]["type"] == "BPE"
            and not config["model"].get("dropout")
            and config["normalizer"] is None
            and split.get("type") == "ByteLevel"
            and not split["add_prefix_space"]
            and split.get("use_regex", True)
            and all(token["special"] for token in config["added_tokens"])
        )

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens."""
        cut = [_CUT.split(text) for text in texts]
        known = self._ids
        if len(known) > _MOST_WORDS:
            known.clear()
        missing = list(dict.fromkeys(word for words in cut for word in words if word not in known))
        encodings = self._backend.encode_batch_fast(missing, add_special_tokens=False)
        found = {word: encoding.ids for word, encoding in zip(missing, encodings, strict=True)}
        known.update(found)
        rows = [list(itertools.chain.from_iterable([known[word] for word in words])) for words in cut]
        for word in found:
            if len(word) > _LONGEST_WORD:
                del known[word]
        return rows
