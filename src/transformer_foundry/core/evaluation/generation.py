"""Generation of text, token by token, with a random generator separate from the global one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from transformer_foundry.core.data.dataloading.batches import move_batch
from transformer_foundry.core.models.contract import IGNORE_INDEX

__all__ = ["choose_token", "fill_masks", "generate", "translate"]


@torch.no_grad()
def generate(
    adapter: nn.Module,
    input_ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: int | None = None,
    max_length: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue each row of ``input_ids`` with a causal language model.

    Args:
        adapter: In eval mode.
        input_ids: (B, T) int64, rows of equal length without padding, T >= 1.
        max_new_tokens: Length of the continuation.
        temperature: 0 takes the likeliest token.
        top_k: Sample from this many likeliest tokens.
        top_p: Sample from the likeliest tokens that make up this probability (Holtzman et al. 2020).
        eos_token_id: Rows that have reached it repeat it; when all have, generation ends.
        max_length: The model sees at most this many of the last tokens.
        generator: Source of the random draws, on the CPU.

    Returns:
        (B, T + n) int64 on the CPU, n <= max_new_tokens.
    """
    device = next(adapter.parameters()).device
    ids = input_ids.cpu()
    is_done = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(max_new_tokens):
        seen = ids if max_length is None else ids[:, -max_length:]
        shown = seen.to(device).contiguous()  # a view of a window is strided
        # All tokens are real: a module without a contract may require a mask.
        logits = adapter(input_ids=shown, attention_mask=torch.ones_like(shown))[:, -1].float().cpu()
        chosen = choose_token(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        if eos_token_id is not None:
            chosen = torch.where(is_done, eos_token_id, chosen)
            is_done |= chosen == eos_token_id
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        if bool(is_done.all()):
            break
    return ids


def choose_token(
    logits: Tensor,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample one token for each row.

    Args:
        logits: (B, V) float.
        temperature: 0 takes the likeliest token.
        top_k: Sample from this many likeliest tokens.
        top_p: Sample from the likeliest tokens that make up this probability; the likeliest is always one of them.
        generator: Source of the random draws.

    Returns:
        (B,) int64.
    """
    if temperature == 0:
        return logits.argmax(-1)
    ordered, order = (logits / temperature).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = float("-inf")
    probabilities = ordered.softmax(-1)
    if top_p is not None:
        # A token stays when those before it do not yet make up top_p.
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    drawn = torch.multinomial(probabilities, 1, generator=generator)
    return order.gather(-1, drawn)[:, 0]


@torch.no_grad()
def fill_masks(adapter: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the input ids with the likeliest token at each position with a label; (B, T) int64 on the CPU."""
    device = next(adapter.parameters()).device
    inputs = move_batch({name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}, device)
    predicted = adapter(**inputs).argmax(-1).cpu()
    return torch.where(batch["labels"] != IGNORE_INDEX, predicted, batch["input_ids"])


@torch.no_grad()
def translate(
    adapter: nn.Module, batch: Mapping[str, Tensor], max_new_tokens: int, *, eos_token_id: int | None = None
) -> Tensor:
    """Decode greedily with an encoder-decoder.

    The decoder starts with the first token of ``batch["decoder_input_ids"]``.

    Returns:
        (B, n) int64 on the CPU, n <= max_new_tokens, without the start token; rows that have reached the end repeat it.
    """
    device = next(adapter.parameters()).device
    source = move_batch({name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}, device)
    decoded = batch["decoder_input_ids"][:, :1]
    is_done = torch.zeros(len(decoded), dtype=torch.bool)
    for _ in range(max_new_tokens):
        decoder_ids = decoded.to(device)
        mask = torch.ones_like(decoder_ids)
        logits = adapter(**source, decoder_input_ids=decoder_ids, decoder_attention_mask=mask)
        chosen = logits[:, -1].argmax(-1).cpu()
        if eos_token_id is not None:
            chosen = torch.where(is_done, eos_token_id, chosen)
            is_done |= chosen == eos_token_id
        decoded = torch.cat([decoded, chosen[:, None]], dim=1)
        if bool(is_done.all()):
            break
    return decoded[:, 1:]
