"""Tokenizers that the user gives: a folder, a file, the Hub. They keep their ids; missing special tokens are added."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DataError, error_message, suggestion
from transformer_foundry.core.data.tokenizer.foreign_files import find_foreign_file, read_foreign_tokenizer
from transformer_foundry.core.data.tokenizer.limits import build_backend
from transformer_foundry.core.data.tokenizer.special_tokens import decoder_start_id, set_special_token_template
from transformer_foundry.core.data.tokenizer.tokenizer import SENTINEL, SpecialIds, Tokenizer, load_tokenizer
from transformer_foundry.core.system.hub_client import limit_hub_waits, network_errors

if TYPE_CHECKING:
    from transformer_foundry.core.models.contract import Contract

__all__ = ["FITTED", "fit_given", "read_local", "require_on_hub"]

FITTED = ("auto", "bpe", "bytes", "characters", "word", "wordpiece", "unigram")
"""Kinds of tokenizers that are fitted to the data."""

_HUB_SECONDS = 10.0
_HUB_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.json", "vocab.txt")


def fit_given(
    name: str, contract: Contract, vocab_size: int, max_length: int, needed: Sequence[str], sentinels: int
) -> Tokenizer:
    """Load a tokenizer from a folder or the Hub, and check that it fits the model."""
    path = Path(name).expanduser()
    foreign = find_foreign_file(path)
    if not path.exists() and (path.suffix in (".model", ".tiktoken", ".json") or path.is_absolute()):
        raise DataError(
            f"data.tokenizer is {name}, but there is no such file or folder.",
            "Expected a kind of tokenizer, an existing file or folder, or a Hub name.",
            "Check the spelling of data.tokenizer.",
        )
    if path.is_file() and path.suffix != ".json" and foreign is None:
        raise DataError(
            f"The tokenizer {name} is a file of a format that is not read.",
            "Expected tokenizer.json, a .model of sentencepiece, a .tiktoken file, a tokenizer folder or a Hub name.",
            f"Convert it: transformers.AutoTokenizer.from_pretrained('{path.parent}').save_pretrained('converted').",
        )
    found = read_local(name)
    given = _download(name) if found is None else found
    if given.vocab_size > vocab_size:
        raise DataError(
            f"The tokenizer {name} has {given.vocab_size} tokens but the model only {vocab_size}.",
            f"Expected at most {vocab_size} tokens.",
            f"Set data.tokenizer to 'auto', or export the model with vocab_size {given.vocab_size}.",
        )
    if len(given.special.sentinels) < sentinels:
        raise DataError(
            f"The tokenizer {name} has {len(given.special.sentinels)} tokens {SENTINEL.format(0)}, ... for spans.",
            f"Rows of {max_length} tokens need {sentinels}.",
            "Set data.tokenizer to 'auto', or data.target_column to the column of the target text.",
        )
    tokenizer = Tokenizer(given.backend, _complete(given, contract, name, needed), max_length=max_length)
    if contract.task == "seq2seq_lm" and tokenizer.encode("a")[-1] != tokenizer.eos_token_id:
        set_special_token_template(tokenizer.backend, tokenizer.special, contract.task)
    return tokenizer


def read_local(name: str) -> Tokenizer | None:
    """Return the tokenizer in a folder or file as it is there; None if there is none of that name.

    Raises:
        DataError: If it cannot be read.
    """
    path = Path(name).expanduser()
    foreign = find_foreign_file(path)
    if foreign is not None:
        return read_foreign_tokenizer(foreign)
    return load_tokenizer(path) if path.exists() else None


def require_on_hub(name: str) -> None:
    """Refuse the name of a tokenizer that is neither in the cache of the Hub nor, asked once, a repository there.

    Raises:
        DataError: If it is not.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    limit_hub_waits()
    failures: tuple[type[BaseException], ...] = (*network_errors(), ValueError)
    try:
        if any(isinstance(try_to_load_from_cache(name, file), str) for file in _HUB_FILES):
            return
        HfApi().model_info(name, timeout=_HUB_SECONDS)
    except failures as err:
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

        is_answer = isinstance(err, RepositoryNotFoundError | HFValidationError)
        why = "the Hub has no such repository" if is_answer else "the Hub did not answer, and its cache has none"
        raise DataError(
            f"data.tokenizer is {name}: there is no such file or folder, and {why} ({type(err).__name__}).",
            f"Expected a kind ({', '.join(FITTED)}), a folder, a file or a name on the Hub.{suggestion(name, FITTED)}",
            "Set data.tokenizer to 'auto', or check the name and the network; a private repository needs HF_TOKEN.",
        ) from err


def _complete(given: Tokenizer, contract: Contract, name: str, needed: Sequence[str]) -> SpecialIds:
    """Add the special tokens that the task needs: those of the contract, else another; a mask cannot be replaced.

    An id of the contract is used only if it is special in the tokenizer: with the ids of GPT-2, an eos_token_id of 2
    would end a text at each "#".
    """
    found = dict(given.special.__dict__)
    special = {number for number, token in given.backend.get_added_tokens_decoder().items() if token.special}
    fallback = next((found[role] for role in ("pad", "eos", "bos", "unk") if found[role] is not None), None)
    for role in needed:
        if found[role] is not None:
            continue
        named = getattr(contract, f"{role}_token_id")
        found[role] = named if named in special else None if role == "mask" else fallback
        if found[role] is None:
            raise DataError(
                f"The tokenizer {name} has no {role} token.",
                f"The task {contract.task} needs one.",
                f"Set data.tokenizer to 'auto', or to a tokenizer with a {role} token.",
            )
    return SpecialIds(**{**found, "decoder_start": decoder_start_id(contract, found["pad"])})


def _download(name: str) -> Tokenizer:
    import tempfile

    from transformers import AutoTokenizer

    try:
        revision = _checked_revision(name)
        # None, the default, asks at the terminal whether to run code of the repository.
        pretrained = AutoTokenizer.from_pretrained(name, revision=revision, use_fast=True, trust_remote_code=False)
        with tempfile.TemporaryDirectory() as folder:
            pretrained.save_pretrained(folder)
            return load_tokenizer(folder)
    except (OSError, ValueError, RecursionError) as err:
        raise DataError(
            f"The tokenizer {name} cannot be read: {error_message(err, 200)}",
            f"Expected a kind ({', '.join(FITTED)}), a folder, a file or a Hub name.",
            "Set data.tokenizer to 'auto', or check the name and the connection.",
        ) from err


def _checked_revision(name: str) -> str | None:
    """Return the commit whose ``tokenizer.json`` is within the limits; None if the repository has no such file.

    Raises:
        ValueError: If the file is beyond them, or cannot be read.
        OSError: If the Hub does not answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    try:
        file = Path(hf_hub_download(name, "tokenizer.json"))
    except (EntryNotFoundError, HFValidationError):  # the cache may lack it while the Hub is not asked
        return None
    build_backend(file.read_text(encoding="utf-8"))
    return file.parent.name
