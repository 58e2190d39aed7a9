"""What a model writes: samples for the eye, drawn from a generator of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from transformer_foundry.core.training.objectives import IGNORED
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.update import move_batch

__all__ = ["TextDecoder", "choose_token", "fill_masks", "generate", "sample_texts", "translate"]

_PROMPT_TOKENS = 12
_SHOWN_CHARACTERS = 300


class TextDecoder(Protocol):
    """What sampling needs of a tokenizer."""

    @property
    def eos_token_id(self) -> int | None:
        """Id that ends a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``."""
        ...


@torch.no_grad()
def sample_texts(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    task: str,
    batch: Mapping[str, Tensor],
    options: TrainingOptions,
    *,
    seed: int = 0,
    max_length: int | None = None,
    label_names: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return up to ``options.num_samples`` lines that show what ``adapter`` makes of the first rows of ``batch``.

    Causal LM: the beginning of a row, continued by sampling. Masked LM: a row whose hidden tokens are filled in.
    Sequence to sequence: the source, the greedy translation and the reference. Classification: the text, the predicted
    and the true label. The global random state is not touched.

    Args:
        adapter: The model; its train or eval mode is put back.
        tokenizer: Turns ids into text.
        task: One of ``objectives.TASKS``.
        batch: An evaluation batch on the CPU.
        options: Number, length, temperature, top-k and top-p of the samples.
        seed: Of the draws.
        max_length: Longest input the model takes, in tokens.
        label_names: Names of the classes.
    """
    rows = {name: tensor[: options.num_samples] for name, tensor in batch.items()}
    if options.num_samples == 0 or len(rows["input_ids"]) == 0:
        return ()
    was_training = adapter.training
    adapter.eval()
    try:
        if task == "causal_lm":
            lines = _continue_rows(adapter, tokenizer, rows, options, seed, max_length)
        elif task == "masked_lm":
            lines = _fill_rows(adapter, tokenizer, rows)
        elif task == "seq2seq_lm":
            lines = _translate_rows(adapter, tokenizer, rows, options.sample_tokens)
        else:
            lines = _label_rows(adapter, tokenizer, rows, label_names)
    finally:
        adapter.train(was_training)
    return tuple(lines)


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
        adapter: In eval mode; called with ids alone.
        input_ids: (B, T) int64, rows of equal length without padding, T >= 1.
        max_new_tokens: Length of the continuation.
        temperature: 0 takes the likeliest token.
        top_k: Choose among this many likeliest tokens.
        top_p: Choose among the likeliest tokens that make up this probability (Holtzman et al. 2020).
        eos_token_id: Rows that reached it repeat it; when all have, generation ends.
        max_length: The model sees at most this many of the last tokens.
        generator: On the CPU; where the draws come from.

    Returns:
        (B, T + n) int64 on the CPU, n <= max_new_tokens.
    """
    device = next(adapter.parameters()).device
    ids = input_ids.cpu()
    is_done = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(max_new_tokens):
        seen = ids if max_length is None else ids[:, -max_length:]
        logits = adapter(input_ids=seen.to(device))[:, -1].float().cpu()
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
    """Choose one token for each row.

    Args:
        logits: (B, V) float.
        temperature: 0 takes the likeliest token.
        top_k: Choose among this many likeliest tokens.
        top_p: Choose among the likeliest tokens that make up this probability; the likeliest is always one of them.
        generator: Where the draws come from.

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
    """Return the input ids with the likeliest token wherever there is a label; (B, T) int64 on the CPU."""
    device = next(adapter.parameters()).device
    inputs = move_batch({name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}, device)
    predicted = adapter(**inputs).argmax(-1).cpu()
    return torch.where(batch["labels"] != IGNORED, predicted, batch["input_ids"])


@torch.no_grad()
def translate(
    adapter: nn.Module, batch: Mapping[str, Tensor], max_new_tokens: int, *, eos_token_id: int | None = None
) -> Tensor:
    """Decode greedily with an encoder-decoder.

    The decoder begins with the first token of ``batch["decoder_input_ids"]``.

    Returns:
        (B, n) int64 on the CPU, n <= max_new_tokens, without the start token; rows that reached the end repeat it.
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


def _continue_rows(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    rows: Mapping[str, Tensor],
    options: TrainingOptions,
    seed: int,
    max_length: int | None,
) -> list[str]:
    shortest = int(rows["attention_mask"].sum(-1).min()) if "attention_mask" in rows else rows["input_ids"].size(1)
    length = max(1, min(_PROMPT_TOKENS, shortest // 2))
    prompts = rows["input_ids"][:, :length]
    ids = generate(
        adapter,
        prompts,
        options.sample_tokens,
        temperature=options.sample_temperature,
        top_k=options.sample_top_k,
        top_p=options.sample_top_p,
        eos_token_id=tokenizer.eos_token_id,
        max_length=max_length,
        generator=torch.Generator().manual_seed(seed),
    )
    return [
        f"{_show(tokenizer, row[:length])} >> {_show(tokenizer, _until(row[length:], tokenizer.eos_token_id))}"
        for row in ids
    ]


def _fill_rows(adapter: nn.Module, tokenizer: TextDecoder, rows: Mapping[str, Tensor]) -> list[str]:
    filled = fill_masks(adapter, rows)
    lines = []
    for row, ids in enumerate(filled):
        hidden = rows["labels"][row] != IGNORED
        pairs = [
            f"{_show(tokenizer, ids[at : at + 1])!r} for {_show(tokenizer, rows['labels'][row][at : at + 1])!r}"
            for at in hidden.nonzero()[:, 0].tolist()[:5]
        ]
        real = rows["attention_mask"][row].bool() if "attention_mask" in rows else torch.ones_like(hidden)
        lines.append(f"{_show(tokenizer, ids[real])} >> {', '.join(pairs)}")
    return lines


def _translate_rows(
    adapter: nn.Module, tokenizer: TextDecoder, rows: Mapping[str, Tensor], max_new_tokens: int
) -> list[str]:
    # The reference is as long as the decoder may get: its positions are known to be within the model's range.
    length = min(max_new_tokens, rows["labels"].size(1))
    written = translate(adapter, rows, length, eos_token_id=tokenizer.eos_token_id)
    lines = []
    for row, ids in enumerate(written):
        source = rows["input_ids"][row]
        if "attention_mask" in rows:
            source = source[rows["attention_mask"][row].bool()]
        reference = rows["labels"][row]
        texts = (source, ids, reference[reference != IGNORED])
        shown = [_show(tokenizer, _until(text, tokenizer.eos_token_id)) for text in texts]
        lines.append(f"{shown[0]} >> {shown[1]} (reference: {shown[2]})")
    return lines


def _label_rows(
    adapter: nn.Module, tokenizer: TextDecoder, rows: Mapping[str, Tensor], names: Sequence[str] | None
) -> list[str]:
    device = next(adapter.parameters()).device
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask") if name in rows}
    predicted = adapter(**move_batch(inputs, device)).argmax(-1).cpu()
    lines = []
    for row, ids in enumerate(rows["input_ids"]):
        real = rows["attention_mask"][row].bool() if "attention_mask" in rows else torch.ones_like(ids).bool()
        guess, truth = _label(predicted[row], names), _label(rows["labels"][row], names)
        lines.append(f"{_show(tokenizer, ids[real])} >> {guess} (true: {truth})")
    return lines


def _label(number: Tensor, names: Sequence[str] | None) -> str:
    """Name of a class, or the names of a row of classes (token classification)."""
    if number.dim():
        return " ".join(_label(item, names) for item in number if int(item) != IGNORED)
    index: Any = int(number)
    return str(index) if names is None or not 0 <= index < len(names) else names[index]


def _until(ids: Tensor, end: int | None) -> Tensor:
    """The ids before the first ``end``."""
    found = (ids == end).nonzero() if end is not None else ids.new_empty(0)
    return ids[: int(found[0])] if len(found) else ids


def _show(tokenizer: TextDecoder, ids: Tensor) -> str:
    """One line of text, cut to a length that a terminal shows."""
    text = " ".join(tokenizer.decode(ids.tolist()).split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
