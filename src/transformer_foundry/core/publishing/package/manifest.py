"""Describe a model, its training and its text encoding for the manifest of a package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.files.run_paths import TRACKING_FILE

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
]

_PROMPT_WORDS = {"causal_lm": 6}
_PROMPT_WORDS_OTHERWISE = 24
# How byte-level BPE and SentencePiece write the space before a word.
_SPACES = ("\u0120", "\u2581")
_FALLBACK_TEXT = "The value of the argument is returned"


def describe_model(adapter: Adapter, export: ModelSource) -> dict[str, Any]:
    """Return name, kind, origin, digests and size of the model, and how it is built and called."""
    from transformer_foundry.core.models.building.build import find_constructor_call

    contract = adapter.contract
    return {
        "name": export.name,
        "kind": contract.kind,
        "task": contract.task,
        "source": Path(export.source).name if Path(export.source).exists() else export.source,
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


def describe_encoding(contract: Contract, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return how a text's ids become a row of the model, for programs without this project's tokenizer class.

    Returns:
        ``prefix`` and ``suffix``: ids before and after those of the text; ``mask_text``: the tokenizer's name of the
        mask token; ``mask_takes_space``: whether a token includes the space before its word.
    """
    plain, framed = (tokenizer.encode(_FALLBACK_TEXT, add_special_tokens=special) for special in (False, True))
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
    }


def make_prompt(contract: Contract, tokenizer: Tokenizer, data_profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example text like those of training, and its ids, for ``load_example.py``."""
    examples = data_profile.get("examples") or [{"input": ""}]
    # The examples of a masked language model have hidden tokens.
    text = "" if contract.task == "masked_lm" else examples[0]["input"]
    for token in filter(None, map(tokenizer.token, tokenizer.special.ids())):
        text = text.replace(token, " ")
    words = text.removesuffix("...").split()
    # The first word of a packed row may be the end of a cut one.
    text = " ".join(words[1:][: _PROMPT_WORDS.get(contract.task, _PROMPT_WORDS_OTHERWISE)]) or _FALLBACK_TEXT
    ids = tokenizer.encode(text, add_special_tokens=contract.task != "causal_lm")
    begins_document = contract.task == "causal_lm"
    if begins_document and tokenizer.document_start_id is not None:
        ids = [tokenizer.document_start_id, *ids]
    return {"text": text, "input_ids": ids[: contract.max_length], "begins_document": begins_document}
