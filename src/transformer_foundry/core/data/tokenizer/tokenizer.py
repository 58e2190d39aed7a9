"""The tokenizer: text to ids and back, with the special tokens that the model expects."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.data.tokenizer.encode_cache import WordCache
from transformer_foundry.core.data.tokenizer.limits import build_backend
from transformer_foundry.core.files.atomic import replace_file

if TYPE_CHECKING:
    import tokenizers

__all__ = ["IDS", "ROLES", "SENTINEL", "SpecialIds", "Tokenizer", "load_tokenizer"]

ROLES = ("pad", "bos", "eos", "mask", "unk")
SENTINEL = "<extra_id_{}>"
"""Name of the sentinels of hidden spans, as in T5."""

IDS = "ids"
"""The algorithm of data that are token ids already."""

_MOST_SENTINELS = 100
_TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
_SPECIAL_TOKENS_FILE = "special_tokens_map.json"


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens; None if the tokenizer has none. Two roles may share one id.

    Attributes:
        sentinels: Ids that replace the first, second, ... hidden span (span corruption).
    """

    pad: int | None = None
    bos: int | None = None
    eos: int | None = None
    mask: int | None = None
    unk: int | None = None
    decoder_start: int | None = None
    sentinels: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SpecialIds:
        """Return the ids that were written to JSON as ``__dict__``.

        Raises:
            TypeError: If these are no ids of special tokens.
        """
        found = cls(**{**values, "sentinels": tuple(values.get("sentinels", ()))})
        wrong = [number for number in found.ids() if not isinstance(number, int) or not 0 <= number < 2**31]
        if wrong:
            raise TypeError(f"the id of a special token is {wrong[0]!r}")
        return found

    def ids(self) -> tuple[int, ...]:
        """Return the distinct ids, ascending."""
        found = {getattr(self, role) for role in ROLES} | {self.decoder_start, *self.sentinels}
        return tuple(sorted(number for number in found if number is not None))


class Tokenizer:
    """A ``tokenizers.Tokenizer`` with the ids of its special tokens.

    Special tokens that occur in a text, such as ``<|eos|>``, are encoded as ordinary text.

    Args:
        backend: The tokenizer; its post-processor adds the special tokens of the task (classification: the first
            token; sequence to sequence: the end token).
        special: Ids of the special tokens.
        max_length: Longest input of the model, in tokens.
        algorithm: "bpe", "bytes", "characters", "word", ... or "given"; "ids" if the data are ids.
        request: Digest of the data and settings it was trained with; empty if it was not trained here.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special: SpecialIds,
        *,
        max_length: int | None = None,
        algorithm: str = "given",
        request: str = "",
    ) -> None:
        self.backend = backend
        self.special = special
        self.max_length = max_length
        self.algorithm = algorithm
        self.request = request
        self._words: WordCache | None = None
        backend.encode_special_tokens = True
        # Files of published tokenizers often enable both; a text must neither lose nor gain tokens.
        backend.no_truncation()
        backend.no_padding()

    def __repr__(self) -> str:
        return f"Tokenizer({self.algorithm!r}, vocab_size={self.vocab_size}, max_length={self.max_length})"

    def __len__(self) -> int:
        return self.vocab_size

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy: the backend loses ``encode_special_tokens`` when it is copied."""
        self.__dict__.update(state, _words=None)
        self.backend.encode_special_tokens = True

    @property
    def vocab_size(self) -> int:
        """The largest id in use plus one; at most the model's vocabulary."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def pad_token_id(self) -> int | None:
        """Id that fills short rows."""
        return self.special.pad

    @property
    def bos_token_id(self) -> int | None:
        """Id that begins a document; None if the tokenizer has none."""
        return self.special.bos

    @property
    def eos_token_id(self) -> int | None:
        """Id that ends a document."""
        return self.special.eos

    @property
    def mask_token_id(self) -> int | None:
        """Id that masks a token of a masked language model."""
        return self.special.mask

    @property
    def unk_token_id(self) -> int | None:
        """Id of text that is not in the vocabulary; None if every text can be encoded."""
        return self.special.unk

    @property
    def decoder_start_token_id(self) -> int | None:
        """Id that begins the decoder's input."""
        return self.special.decoder_start

    @property
    def document_start_id(self) -> int | None:
        """Id before the first token of a document in training; generation starts with it."""
        return self.special.eos if self.special.bos is None else self.special.bos

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of ``text``, the same as those of AutoTokenizer for the saved folder."""
        return list(self.backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Return the ids of each text: from a cache of words if possible, else computed on all cores."""
        if self.algorithm == IDS:
            rows = [[int(number) for number in text.split()] for text in texts]
            adds_end = add_special_tokens and self.backend.post_processor is not None
            end = [self.special.eos] if adds_end and self.special.eos is not None else []
            return [row if row[-1:] == end else [*row, *end] for row in rows]  # given ids may have their own end
        if not add_special_tokens:
            if self._words is None and WordCache.supports(self.backend):
                self._words = WordCache(self.backend)
            if self._words is not None:
                return self._words.encode_batch(texts)
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ``ids``; unknown ids are skipped."""
        return str(self.backend.decode([int(number) for number in ids], skip_special_tokens=skip_special_tokens))

    def token(self, number: int) -> str:
        """Return the text of one id; special tokens by name."""
        if number in self.special.ids():
            return str(self.backend.id_to_token(number))
        return self.decode([number], skip_special_tokens=False)

    def digest(self) -> str:
        """Return the sha256 of everything that affects the ids."""
        content = json.dumps([self.backend.to_str(), self.special.__dict__, self.max_length], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``.

        ``tokenizer.json`` is deleted first and written last: a folder that has one is complete.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _TOKENIZER_FILE).unlink(missing_ok=True)
        tokens = {f"{role}_token": self._token_of(role) for role in ROLES}
        tokens = {name: token for name, token in tokens.items() if token is not None}
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            **tokens,
            "foundry": {"special": self.special.__dict__, "algorithm": self.algorithm, "request": self.request},
        }
        if self.max_length is not None:
            config["model_max_length"] = self.max_length
        replace_file(folder / _CONFIG_FILE, json.dumps(config, indent=2))
        replace_file(folder / _SPECIAL_TOKENS_FILE, json.dumps(tokens, indent=2))
        replace_file(folder / _TOKENIZER_FILE, self.backend.to_str(pretty=True))

    def _token_of(self, role: str) -> str | None:
        number = getattr(self.special, role)
        return None if number is None else self.backend.id_to_token(number)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load the tokenizer from a folder that ``Tokenizer.save`` or transformers wrote, or from its ``tokenizer.json``.

    Raises:
        DataError: If the folder contains no complete tokenizer.
    """
    folder = Path(folder)
    file = folder / _TOKENIZER_FILE
    if folder.is_file():
        file, folder = folder, folder.parent
    try:
        backend = build_backend(file.read_text(encoding="utf-8"))
        config_file = folder / _CONFIG_FILE
        config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
        extra = config.get("foundry", {}) if isinstance(config, dict) else None
        if not isinstance(extra, dict):
            raise ValueError(f"{_CONFIG_FILE} is no object of JSON, or its 'foundry' is none")
        special = SpecialIds.from_json(extra["special"]) if "special" in extra else _read_special(backend, config)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as err:
        raise _unreadable(folder, err) from err
    max_length = config.get("model_max_length")
    return Tokenizer(
        backend,
        special,
        max_length=max_length if isinstance(max_length, int) and max_length < 10**9 else None,
        algorithm=extra.get("algorithm", "given"),
        request=extra.get("request", ""),
    )


def _read_special(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> SpecialIds:
    found: dict[str, int | None] = {}
    for role, names in {**{role: (role,) for role in ROLES}, "bos": ("bos", "cls"), "eos": ("eos", "sep")}.items():
        tokens = [config.get(f"{name}_token") for name in names]
        contents = [token.get("content") if isinstance(token, dict) else token for token in tokens]
        found[role] = next((backend.token_to_id(token) for token in contents if token), None)
    extra = (backend.token_to_id(SENTINEL.format(number)) for number in range(_MOST_SENTINELS))
    sentinels = tuple(number for number in itertools.takewhile(lambda number: number is not None, extra) if number)
    return SpecialIds(**found, sentinels=sentinels)


def _unreadable(folder: Path, err: Exception) -> DataError:
    return DataError(
        f"There is no readable tokenizer in {folder}: {one_line(err, 200)}",
        f"Expected the files {_TOKENIZER_FILE} and {_CONFIG_FILE}.",
        "Run the data_engineering pipeline again, or set data.tokenizer to 'auto'.",
    )
