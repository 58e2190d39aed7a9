"""Samples of a model's output, and metrics of generated texts against their references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from transformer_foundry.core.data.dataloading.batches import evaluation_batches, move_batch
from transformer_foundry.core.evaluation.generation import fill_masks, generate, translate
from transformer_foundry.core.evaluation.options import SampleOptions
from transformer_foundry.core.evaluation.text_answers import answer_text, true_text
from transformer_foundry.core.evaluation.text_metrics import compare_texts
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.core.models.options import TEXT_TASKS
from transformer_foundry.core.system.precision import Precision

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["TextDecoder", "measure_texts", "sample_split", "sample_texts"]

_PROMPT_TOKENS = 12
_SHOWN_CHARACTERS = 300


class TextDecoder(Protocol):
    """The part of a tokenizer that sampling uses."""

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
    options: SampleOptions,
    *,
    seed: int = 0,
    max_length: int | None = None,
    label_names: Sequence[str] | None = None,
    target_scale: tuple[float, float] | None = None,
) -> tuple[str, ...]:
    """Return up to ``options.num_samples`` lines, each with the output of ``adapter`` for a row of ``batch``.

    Causal LM: the beginning of a row, continued by sampling. Masked LM: a row with its masked tokens filled in.
    Sequence to sequence: the source, the greedy translation and the reference. Classification: the text, the predicted
    and the true label. The global random state is not touched.

    Args:
        adapter: The model; its train or eval mode is restored.
        tokenizer: Turns ids into text.
        task: One of ``core.models.losses.TASKS``.
        batch: An evaluation batch on the CPU.
        options: Number, length and randomness of the samples.
        seed: Of the draws.
        max_length: Longest input the model takes, in tokens.
        label_names: Names of the classes.
        target_scale: Mean and standard deviation of the training numbers (regression).
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
            lines = _translate_rows(adapter, tokenizer, rows, options.max_new_tokens)
        else:
            lines = _label_rows(adapter, tokenizer, rows, task, label_names, target_scale)
    finally:
        adapter.train(was_training)
    return tuple(lines)


def sample_split(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    splits: TokenSplits,
    options: SampleOptions,
    *,
    seed: int,
) -> tuple[str, ...]:
    """Return the samples for the first rows of the validation split; see ``sample_texts``."""
    batches = evaluation_batches(splits, batch_size=max(1, options.num_samples))
    if batches is None:
        return ()
    return sample_texts(
        adapter,
        tokenizer,
        splits.task,
        batches.batch(0),
        options,
        seed=seed,
        max_length=splits.max_length,
        label_names=splits.label_names,
        target_scale=splits.target_scale,
    )


def measure_texts(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    splits: TokenSplits,
    split: str = "validation",
    *,
    max_texts: int,
    precision: Precision,
    batch_size: int = 32,
) -> dict[str, float]:
    """Generate the first texts of a split with a sequence-to-sequence model and compare them with their references.

    Args:
        adapter: On the device of ``precision``; its train or eval mode is restored.
        tokenizer: Turns ids into text.
        splits: ``core.data.TokenSplits``.
        split: "train", "validation" or "test".
        max_texts: At most this many texts.
        precision: Device and number format.
        batch_size: Texts of one forward pass.

    Returns:
        Metrics of greedy decoding, see ``compare_texts``; empty for other tasks and an empty split.
    """
    if splits.task != "seq2seq_lm":
        return {}
    batches = evaluation_batches(splits, split, batch_size=min(batch_size, max_texts))
    if batches is None:
        return {}
    was_training = adapter.training
    adapter.eval()
    texts: list[str] = []
    references: list[str] = []
    try:
        for position in range(min(len(batches), math.ceil(max_texts / batch_size))):
            batch = batches.batch(position)
            with precision.autocast():
                written = translate(adapter, batch, batch["labels"].size(1), eos_token_id=tokenizer.eos_token_id)
            for ids, reference in zip(written, batch["labels"], strict=True):
                texts.append(_text(tokenizer, ids))
                references.append(_text(tokenizer, reference[reference != IGNORE_INDEX]))
    finally:
        adapter.train(was_training)
    return compare_texts(texts, references)


def _text(tokenizer: TextDecoder, ids: Tensor) -> str:
    return tokenizer.decode(_until(ids, tokenizer.eos_token_id).tolist())


def _continue_rows(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    rows: Mapping[str, Tensor],
    options: SampleOptions,
    seed: int,
    max_length: int | None,
) -> list[str]:
    if "labels" in rows and bool((rows["labels"][_real(rows)] == IGNORE_INDEX).any()):
        return _answer_rows(adapter, tokenizer, rows, options, seed, max_length)
    shortest = int(rows["attention_mask"].sum(-1).min()) if "attention_mask" in rows else rows["input_ids"].size(1)
    length = max(1, min(_PROMPT_TOKENS, shortest // 2))
    prompts = torch.stack([_prompt(tokenizer, ids[:shortest], length) for ids in rows["input_ids"]])
    ids = generate(
        adapter,
        prompts,
        options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        eos_token_id=tokenizer.eos_token_id,
        max_length=max_length,
        generator=torch.Generator().manual_seed(seed),
    )
    return [
        f"{_show(tokenizer, row[:length])} >> {_show(tokenizer, _until(row[length:], tokenizer.eos_token_id))}"
        for row in ids
    ]


def _prompt(tokenizer: TextDecoder, ids: Tensor, length: int) -> Tensor:
    """Return ``length`` ids of a row from where a text begins, else a word, else the row; (length,).

    A row begins in the middle of a text that did not fit into the row before.
    """
    starts = range(len(ids) - length + 1)
    ends = [False] * len(ids) if tokenizer.eos_token_id is None else (ids == tokenizer.eos_token_id).tolist()
    texts = (start for start in starts if start and ends[start - 1] and not any(ends[start : start + length]))
    words = (start for start in starts if _shown_token(tokenizer, ids[start])[:1].isspace())
    # A special token, which decodes to nothing, begins a text.
    start = 0 if not _shown_token(tokenizer, ids[0]) else next(texts, None)
    start = next(words, 0) if start is None else start
    return ids[start : start + length]


def _shown_token(tokenizer: TextDecoder, token: Tensor) -> str:
    return tokenizer.decode([int(token)])


def _answer_rows(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    rows: Mapping[str, Tensor],
    options: SampleOptions,
    seed: int,
    max_length: int | None,
) -> list[str]:
    """Answer the last prompt of each row that is followed by an answer; only answers have labels."""
    lines, generator = [], torch.Generator().manual_seed(seed)
    for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        learned = labels != IGNORE_INDEX
        begins = (learned[1:] & ~learned[:-1]).nonzero()[:, 0] + 1
        if not len(begins):
            continue
        first = int(begins[-1])
        ends = (ids[:first] == tokenizer.eos_token_id).nonzero()[:, 0] if tokenizer.eos_token_id is not None else begins
        start = max((int(end) + 1 for end in ends if int(end) + 1 < first), default=0)
        found = generate(
            adapter,
            ids[None, start:first],
            options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            eos_token_id=tokenizer.eos_token_id,
            max_length=max_length,
            generator=generator,
        )[0, first - start :]
        parts = (ids[start:first], found, labels[first:][learned[first:]])
        prompt, answer, reference = (_show(tokenizer, _until(part, tokenizer.eos_token_id)) for part in parts)
        lines.append(f"{prompt} >> {answer} (reference: {reference})")
    return lines


def _fill_rows(adapter: nn.Module, tokenizer: TextDecoder, rows: Mapping[str, Tensor]) -> list[str]:
    filled = fill_masks(adapter, rows)
    lines = []
    for row, ids in enumerate(filled):
        hidden = rows["labels"][row] != IGNORE_INDEX
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
        texts = (source, ids, reference[reference != IGNORE_INDEX])
        shown = [_show(tokenizer, _until(text, tokenizer.eos_token_id)) for text in texts]
        lines.append(f"{shown[0]} >> {shown[1]} (reference: {shown[2]})")
    return lines


def _label_rows(
    adapter: nn.Module,
    tokenizer: TextDecoder,
    rows: Mapping[str, Tensor],
    task: str,
    names: Sequence[str] | None,
    target_scale: tuple[float, float] | None,
) -> list[str]:
    device = next(adapter.parameters()).device
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask") if name in rows}
    logits = adapter(**move_batch(inputs, device)).float().cpu()
    lines = []
    for row, ids in enumerate(rows["input_ids"]):
        real = rows["attention_mask"][row].bool() if "attention_mask" in rows else torch.ones_like(ids).bool()
        labels = rows["labels"][row]
        counted = labels if task in TEXT_TASKS else labels[labels != IGNORE_INDEX]
        scores = logits[row] if task in TEXT_TASKS else logits[row][labels != IGNORE_INDEX]
        guess, truth = answer_text(scores, task, names, target_scale), true_text(counted, task, names)
        lines.append(f"{_show(tokenizer, ids[real])} >> {guess} (true: {truth})")
    return lines


def _real(rows: Mapping[str, Tensor]) -> Tensor:
    """Where the input ids are no padding, (B, T) bool."""
    mask = rows.get("attention_mask")
    return torch.ones_like(rows["input_ids"]).bool() if mask is None else mask.bool()


def _until(ids: Tensor, end: int | None) -> Tensor:
    """The ids before the first ``end``."""
    found = (ids == end).nonzero() if end is not None else ids.new_empty(0)
    return ids[: int(found[0])] if len(found) else ids


def _show(tokenizer: TextDecoder, ids: Tensor) -> str:
    """One line of text, cut to a length that a terminal shows."""
    text = " ".join(tokenizer.decode(ids.tolist()).split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
