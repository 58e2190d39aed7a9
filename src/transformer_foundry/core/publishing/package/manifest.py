"""Describe a model, its training and its text encoding for the manifest of a package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.files.run_paths import TRACKING_FILE
from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.models.adapter import Adapter
    from transformer_foundry.core.models.contract import Contract
    from transformer_foundry.core.models.source.read import ModelSource
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = [
    "describe_encoding",
    "describe_model",
    "describe_training",
    "make_prompt",
    "special_token_ids",
    "tracking_url",
    "trained_contract",
]

_PROMPT_WORDS = {"causal_lm": 6}
_PROMPT_WORDS_OTHERWISE = 24
# How byte-level BPE and SentencePiece write the space before a word.
_SPACES = ("\u0120", "\u2581")
_BETWEEN = "\0"
_FALLBACK_TEXT = "The value of the argument is returned"
_FALLBACK_IDS = "0 1"  # the text of data that are token ids


def trained_contract(contract: Contract, data_profile: Mapping[str, Any]) -> Contract:
    """Return the contract with the task that the labels decided, and the units of the numbers of a regression."""
    task, numbers = data_profile.get("task"), data_profile.get("numbers")
    if not contract.scores_texts or task not in TEXT_TASKS:
        return contract
    scale = (float(numbers["mean"]), float(numbers["std"])) if task == "regression" and numbers else None
    return replace(contract, task=task, output_scale=scale)


def describe_model(adapter: Adapter, export: ModelSource) -> dict[str, Any]:
    """Return name, kind, origin, digests and size of the model, and how it is built and called."""
    from transformer_foundry.core.models.building.build import find_constructor_call

    contract = adapter.contract
    return {
        "name": export.name,
        "kind": contract.kind,
        "task": contract.task,
        "source": Path(export.source).name if Path(export.source).exists() else redact(export.source),
        "revision": export.revision,
        "identity": export.identity,
        "sha256": dict(export.sha256),
        "parameter_count": sum(parameter.numel() for parameter in adapter.model.parameters()),
        "expression": find_constructor_call(export).expression,
        "contract": contract.to_dict(),
    }


def describe_training(state: TrainingState | None, run_manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return step, tokens seen, options and seeds; the step is None for an untrained model."""
    parameters = run_manifest.get("parameters", {})
    described = {"step": None, "options": parameters.get("training", {}), "seeds": run_manifest.get("seeds", {})}
    if run_manifest.get("tracking_url"):
        described["tracking_url"] = run_manifest["tracking_url"]
    if state is not None:
        described |= {
            "step": state.step,
            "total_steps": state.total_steps,
            "tokens_seen": state.loss_window.tokens_seen,
            "precision": state.precision,
            "identity": dict(state.identity),
        }
    return described


def tracking_url(run_folder: Path) -> str | None:
    """Return the public address of a run's curves, None if it was not tracked online."""
    try:
        state = json.loads((run_folder / TRACKING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    url = state.get("url") if isinstance(state, dict) else None
    # Readers of the card cannot reach a tracker on the training machine.
    return url if isinstance(url, str) and url.startswith("https://") else None


def special_token_ids(contract: Contract, tokenizer: Tokenizer) -> dict[str, int | None]:
    """Return the id of each special token: the one in the model's configuration, otherwise the tokenizer's."""

    def first(*candidates: int | None) -> int | None:
        return next((number for number in candidates if number is not None), None)

    roles = ("bos", "eos", "mask", "unk")
    ids = {role: first(getattr(contract, f"{role}_token_id"), getattr(tokenizer, f"{role}_token_id")) for role in roles}
    pad = first(contract.pad_token_id, tokenizer.pad_token_id, 0)
    start = first(contract.decoder_start_token_id, tokenizer.decoder_start_token_id, ids["bos"], pad)
    return {"pad": pad, **ids, "decoder_start": start, "document_start": tokenizer.document_start_id}


def describe_encoding(contract: Contract, tokenizer: Tokenizer, data_profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a text's ids become a row of the model, for programs without this project's tokenizer class.

    Returns:
        ``prefix`` and ``suffix``: ids before and after those of the text; ``mask_text``: the tokenizer's name of the
        mask token; ``mask_takes_space``: whether a token includes the space before its word; ``reads_pairs``: whether a
        row has two texts, which ``tokenizer.json`` joins; ``longest_text``: tokens of the longest row that is accepted:
        those that the model takes; if it states no limit, as many as it was trained and its files are verified with.
    """
    from transformer_foundry.core.export.verification.parity import LONGEST_UNLIMITED

    text = _FALLBACK_IDS if tokenizer.algorithm == "ids" else _FALLBACK_TEXT
    plain, framed = (tokenizer.encode(text, add_special_tokens=special) for special in (False, True))
    start = next((at for at in range(len(framed)) if framed[at : at + len(plain)] == plain), 0)
    prefix, suffix = framed[:start], framed[start + len(plain) :]
    if contract.task == "causal_lm":
        # A text to be continued has no end, and begins as documents do in training.
        prefix, suffix = [] if tokenizer.document_start_id is None else [tokenizer.document_start_id], []
    mask = special_token_ids(contract, tokenizer)["mask"]
    words = tokenizer.backend.get_vocab(with_added_tokens=False)
    return {
        "prefix": prefix,
        "suffix": suffix,
        "mask_text": None if mask is None else tokenizer.backend.id_to_token(mask),
        "mask_takes_space": any(len(word) > 1 and word[0] in _SPACES for word in words),
        "reads_pairs": _reads_pairs(data_profile),
        "longest_text": contract.max_length or max(LONGEST_UNLIMITED, data_profile.get("max_length") or 0),
    }


def _reads_pairs(data_profile: Mapping[str, Any]) -> bool:
    return bool((data_profile.get("texts") or {}).get("has_pairs"))


def make_prompt(contract: Contract, tokenizer: Tokenizer, data_profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example like those of training, and its ids, for ``load_example.py``: ``text``, for pairs ``pair``."""
    examples = data_profile.get("examples") or [{"input": ""}]
    # The examples of a masked language model have hidden tokens.
    text = "" if contract.task == "masked_lm" else examples[0]["input"]
    if _reads_pairs(data_profile):
        return _make_pair(contract, tokenizer, text)
    numbers = tokenizer.algorithm == "ids"
    for token in filter(None, map(tokenizer.token, tokenizer.special.ids())):
        if not (numbers and token.isdecimal()):  # the name of id 2 is a part of 12
            text = text.replace(token, " ")
    words = text.removesuffix("...").split()
    # The first word of a packed row may be the end of a cut one.
    text = " ".join(words[1:][: _PROMPT_WORDS.get(contract.task, _PROMPT_WORDS_OTHERWISE)])
    text = text or (_FALLBACK_IDS if numbers else _FALLBACK_TEXT)
    ids = tokenizer.encode(text, add_special_tokens=contract.task != "causal_lm")
    begins_document = contract.task == "causal_lm"
    if begins_document and tokenizer.document_start_id is not None:
        ids = [tokenizer.document_start_id, *ids]
    return {"text": text, "input_ids": ids[: contract.max_length], "begins_document": begins_document}


def _make_pair(contract: Contract, tokenizer: Tokenizer, example: str) -> dict[str, Any]:
    """Return the two texts of a row that is shown with its special tokens, and their ids."""
    for token in filter(None, map(tokenizer.token, tokenizer.special.ids())):
        example = example.replace(token, _BETWEEN)
    texts = [part.strip() for part in example.removesuffix("...").split(_BETWEEN) if part.strip()]
    text, pair = ((texts or [_FALLBACK_TEXT]) * 2)[:2]
    ids = list(tokenizer.backend.encode(text, pair).ids)
    return {"text": text, "pair": pair, "input_ids": ids[: contract.max_length], "begins_document": False}
