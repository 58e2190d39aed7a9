"""Text to the ids of a row and back, as the model was trained with; ``inference.py`` runs this from verified bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["EMPTY", "InputError", "TextEncoding"]

EMPTY = "There is nothing in the text; write at least one word."
# How users write a hidden token, besides the tokenizer's own name for it.
MASK_WORDS = ("[MASK]", "<mask>")
# White_Space of Unicode, which the tokenizers library takes before a mask; Python's and JavaScript's \s differ.
_BLANK = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
# From their beginning only: tried from each of many blanks, a search takes quadratic time.
_BLANKS = f"(?<!{_BLANK}){_BLANK}*"


class InputError(ValueError):
    """A text or a setting that this model cannot take; the message is one sentence for the user."""


class TextEncoding:
    """The tokenizer of a package and how its ids become a row of the model.

    Args:
        file: ``tokenizer.json``.
        settings: ``encoding`` of the manifest, each with its type.
        task: The model's task.
        max_length: The longest row that the model takes, in tokens; None without a limit.
        mask: Id of the token that hides another.
    """

    def __init__(
        self, file: Path, settings: dict[str, Any], task: str, max_length: int | None, mask: int | None
    ) -> None:
        self.settings, self.task, self.max_length, self.mask = settings, task, max_length, mask
        self._single, self._pair = (_read_tokenizer(file) for _ in range(2))
        # Threads share it, so its truncation is set once.
        if max_length is not None:
            self._pair.enable_truncation(max_length, strategy="longest_first")

    def encode(self, text: str, pair: str | None = None) -> list[int]:
        """Return the ids of ``text`` as the model expects them: with special tokens, cut to the model's length.

        A text to continue keeps its end, any other text its beginning; of a pair the longer text is cut first.

        Raises:
            InputError: If the text is empty or not valid Unicode, the model reads pairs and ``pair`` is missing, or the
                model states no limit and the text is longer than it was trained and verified with.
        """
        if (pair is not None) != self.settings["reads_pairs"]:
            raise InputError(
                f"This model reads {'two texts' if self.settings['reads_pairs'] else 'one text'} at a time."
            )
        if pair is None:
            return self.frame(self.plain_ids(text))
        if not self.plain_ids(text) or not self.plain_ids(pair):
            raise InputError(EMPTY)
        return self._short_enough(list(self._pair.encode(text, pair).ids))

    def hidden_ids(self, text: str) -> list[int]:
        """Return the ids of a text in which ``[MASK]``, ``<mask>`` or the tokenizer's own name hides a token.

        Raises:
            InputError: If no token is hidden, or only such as are cut off.
        """
        mask = self.mask_id()
        if not text:
            raise InputError(EMPTY)
        words = {word for word in (*MASK_WORDS, self.settings["mask_text"]) if word}
        # In most vocabularies a token includes the space before its word, so the mask replaces that space too.
        space = _BLANKS if self.settings["mask_takes_space"] else ""
        parts = re.split(space + "(?:" + "|".join(map(re.escape, sorted(words))) + ")", text)
        ids = self.plain_ids(parts[0])
        for part in parts[1:]:
            ids += [mask, *self.plain_ids(part)]
        if len(parts) == 1:
            raise InputError("No token is hidden; write [MASK] where the model shall guess.")
        framed = self.frame(ids)
        if mask not in framed:
            raise InputError(f"The hidden token is beyond the {self.max_length} tokens that the model reads.")
        return framed

    def mask_id(self) -> int:
        """Return the id of the token that hides another.

        Raises:
            InputError: If the model has none.
        """
        if self.mask is None:
            raise InputError("This model has no token that hides another.")
        return self.mask

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, without special tokens."""
        return str(self._single.decode(list(ids)))

    def token(self, number: int) -> str:
        """Return the text of one id, the name of a special token."""
        return self.decode([number]) or self.name(number)

    def name(self, number: int) -> str:
        """Return the name of an id in the vocabulary, empty if it has none."""
        return str(self._single.id_to_token(number) or "")

    def plain_ids(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone.

        Raises:
            InputError: If it is not valid Unicode, or the tokenizer does not know it.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as err:
            raise InputError("The text holds half of a surrogate pair; send valid Unicode.") from err
        try:
            return list(self._single.encode(text, add_special_tokens=False).ids)
        except Exception as err:  # tokenizers raises a bare Exception
            raise InputError(f"The tokenizer does not know all of the text ({err}); token ids are numbers.") from err

    def frame(self, ids: list[int]) -> list[int]:
        """Return the row of the ids of one text.

        Raises:
            InputError: If there are none, or too many for a model without a limit.
        """
        before, after = self.settings["prefix"], self.settings["suffix"]
        if not ids:
            raise InputError(EMPTY)
        if self.max_length is None:
            return self._short_enough([*before, *ids, *after])
        if self.task == "causal_lm":
            return [*before, *ids][-self.max_length :]
        return [*before, *ids[: max(0, self.max_length - len(before) - len(after))], *after][: self.max_length]

    def _short_enough(self, ids: list[int]) -> list[int]:
        # Memory and time of a model without a limit grow with the square of the length.
        longest = self.settings["longest_text"]
        if self.max_length is None and len(ids) > longest:
            raise InputError(
                f"The text has {len(ids):,} tokens, but this model was trained and verified with at most "
                f"{longest:,}; send a shorter text."
            )
        return ids


def _read_tokenizer(file: Path) -> Any:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    # Special tokens that are written out in a text are ordinary text, as in training.
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
