"""Views of the training notebook: a batch before training, the answer of the trained model."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import CheckpointError, DataError
from transformer_foundry.core.files.provenance import difference_text
from transformer_foundry.core.models.contract import IGNORE_INDEX
from transformer_foundry.notebook.session import find_project

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol

    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.models import Adapter

__all__ = ["answer", "free_memory", "show_batch"]

MASK = "[MASK]"
_SHOWN_CHARACTERS = 300


def show_batch(rows: int = 2, env: str | None = None, **sections: Any) -> None:
    """Print the first rows of the training data as the model receives them, decoded to text.

    Args:
        rows: Number of rows.
        env: Environment of the configuration, as for ``run``.
        **sections: Parameters, as for ``run``.
    """
    from transformer_foundry.core.data.dataloading.batches import Batches

    with _catalog(env, sections) as catalog:
        splits, tokenizer = catalog.load("token_splits"), catalog.load("tokenizer")
    batch = Batches(splits.train, splits, batch_size=rows, shuffle=True).batch(0)
    for name, tensor in batch.items():
        print(f"{name:16} {tuple(tensor.shape)}")
    for row in range(len(batch["input_ids"])):
        for name, tensor in batch.items():
            if name == "input_ids" or (name == "labels" and splits.task == "seq2seq_lm"):
                ids = [number for number in tensor[row].tolist() if number >= 0]
                text = tokenizer.decode(ids, skip_special_tokens=splits.task != "masked_lm")
                print(f"\n{name} of row {row}: {text[:_SHOWN_CHARACTERS]!r}")


def answer(prompt: str, env: str | None = None, *, max_new_tokens: int = 60, **sections: Any) -> str:
    """Return the answer of the best checkpoint to ``prompt``: a continuation, filled masks, a translation or a class.

    Args:
        prompt: Text; for a masked language model with ``[MASK]`` where tokens are to be filled in.
        env: Environment of the configuration, as for ``run``.
        max_new_tokens: Maximum length of a continuation or translation.
        **sections: Parameters, as for ``run``.

    Raises:
        DataError: If the prompt is empty.
        CheckpointError: If the run has no checkpoint, or model, data and tokenizer are not those it was trained with.
    """
    from transformer_foundry.core import models, training

    if not prompt.strip():
        raise DataError("The prompt is empty.", "Expected some text.", "Type a few words into PROMPT.")
    with _catalog(env, sections) as catalog:
        state = catalog.load("training_run").require_best()
        options = catalog.load("params:model")
        export, tokenizer, splits = (catalog.load(name) for name in ("model_export", "tokenizer", "token_splits"))
    found = {"model": export.identity, "data": splits.fingerprint, "tokenizer": tokenizer.digest()}
    if other := difference_text(state.made_from, found, ("model", "data", "tokenizer")):
        raise CheckpointError(
            f"The trained model does not belong to what is prepared now: {other}.",
            "A model answers with the code, the data and the tokenizer that it was trained with.",
            "Run the cells of data and training again, or name the run that they belong to with run.name.",
        )
    adapter = models.load_model(export, kind=options.kind, task=options.task)
    training.restore_model(adapter.model, state.evaluated_model)
    return _answer(adapter.eval(), tokenizer, splits, prompt, max_new_tokens)


def free_memory() -> None:
    """Release cached GPU memory and print how much is still in use."""
    import torch

    gc.collect()
    if not torch.cuda.is_available():
        print("No GPU in use: nothing to free.")
        return
    torch.cuda.empty_cache()
    print(f"{torch.cuda.memory_allocated() / 1e9:.2f} GB of GPU memory in use.")


def _answer(adapter: Adapter, tokenizer: Tokenizer, splits: TokenSplits, prompt: str, max_new_tokens: int) -> str:
    import torch

    from transformer_foundry.core import evaluation
    from transformer_foundry.core.evaluation.generation import fill_masks, translate
    from transformer_foundry.core.evaluation.text_answers import answer_text

    if splits.task == "masked_lm":
        assert tokenizer.mask_token_id is not None
        ids = torch.tensor([_encode_masks(tokenizer, prompt)[: splits.max_length]])
        labels = torch.where(ids == tokenizer.mask_token_id, 0, IGNORE_INDEX)
        return str(tokenizer.decode(fill_masks(adapter, {"input_ids": ids, "labels": labels})[0].tolist()))
    is_causal = splits.task == "causal_lm"
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=not is_causal)[-splits.max_length :]])
    if is_causal:
        generated = evaluation.generate(
            adapter,
            ids,
            max_new_tokens,
            temperature=0.8,
            top_k=40,
            eos_token_id=tokenizer.eos_token_id,
            max_length=splits.max_length,
        )
        return str(tokenizer.decode(generated[0].tolist()))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if splits.task == "seq2seq_lm":
        batch["decoder_input_ids"] = torch.tensor([[tokenizer.decoder_start_token_id]])
        length = min(max_new_tokens, splits.max_length)
        return str(tokenizer.decode(translate(adapter, batch, length, eos_token_id=tokenizer.eos_token_id)[0].tolist()))
    with torch.no_grad():
        scores = adapter(**batch)[0].float()
    if splits.task in ("regression", "multi_label_classification"):
        return answer_text(scores, splits.task, splits.label_names, splits.target_scale)
    probabilities = scores.softmax(-1)
    rows = probabilities[None] if probabilities.dim() == 1 else probabilities
    names = splits.label_names or [str(number) for number in range(rows.size(-1))]
    return ", ".join(f"{names[int(row.argmax())]} ({float(row.max()):.0%})" for row in rows)


def _encode_masks(tokenizer: Tokenizer, prompt: str) -> list[int]:
    assert tokenizer.mask_token_id is not None
    parts = [tokenizer.encode(part, add_special_tokens=False) if part else [] for part in prompt.split(MASK)]
    if len(parts) == 1:
        parts.append([])  # Without a mask in the prompt, the next token is predicted.
    ids = list(parts[0])
    for part in parts[1:]:
        ids += [tokenizer.mask_token_id, *part]
    return ids


@contextmanager
def _catalog(env: str | None, sections: dict[str, Any]) -> Iterator[CatalogProtocol[Any, Any]]:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    project = find_project()
    bootstrap_project(project)
    with KedroSession.create(project_path=project, env=env, runtime_params=sections) as session:
        context: Any = session.load_context()  # type: ignore[attr-defined]  # Kedro's abstract session lacks it.
        yield context.catalog
