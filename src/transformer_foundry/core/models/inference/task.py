"""What a model returns and what that makes it: its logits, its kind, its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models import config_hints
from transformer_foundry.core.models.inference.behavior import infer_loss_shift, is_causal
from transformer_foundry.core.models.inference.output_format import Logits, describe_output, find_logits
from transformer_foundry.core.models.inference.probe import Probe

__all__ = ["infer_kind_and_task", "infer_output"]

CLASSIFICATIONS = ("sequence_classification", "token_classification")


def infer_output(probe: Probe, config: Mapping[str, Any]) -> Probe:
    """Return the probe with form, key and size of the logits known.

    Raises:
        ModelError: If nothing in the output looks like logits, one set for each position or for each sequence.
    """
    output, found = _find(probe, config)
    labels = probe.contract.labels_argument
    if found is not None and _is_last_position(found.tensor, probe) and labels is not None:
        # nanoGPT's way: without labels it computes the logits of the last position only.
        probe = replace(probe, contract=probe.contract.with_fixed([labels], "ids"))
        output, found = _find(probe, config)
    if found is None or _is_last_position(found.tensor, probe) or _is_hidden_state(found, probe, config):
        raise _no_logits(probe, config, output)
    size = found.tensor.shape[-1]
    if found.tensor.dim() == 2 and size == probe.contract.vocab_size and size != config_hints.num_labels_hint(config):
        raise _no_logits(probe, config, output)
    if found.tensor.dim() == 2 and size == 1:
        raise ModelError(
            f"forward of {type(probe.model).__name__} returns one number for each text.",
            "Expected a score for each class: (batch, classes), with at least 2 classes.",
            "Give the output block as many outputs as there are classes, and export again.",
        )
    return probe.knowing(output=found.form, logits_key=found.key, output_size=size)


def infer_kind_and_task(probe: Probe, config: Mapping[str, Any], kind: str | None, task: str | None) -> Probe:
    """Return the probe with kind and task known.

    Args:
        probe: A probe whose output is settled.
        config: Content of ``config.json``.
        kind: The kind, if the user states it.
        task: The task, if the user states it.

    Raises:
        ModelError: If what is stated does not fit what the model takes and returns.
    """
    per_token = probe.logits(probe.ids()).dim() == 3
    found_kind = _find_kind(probe, config, kind or config_hints.TASK_KINDS.get(task or ""), per_token)
    found_task = _find_task(probe, config, found_kind, per_token)
    _refuse_contradiction(probe, kind, task, found_kind, per_token)
    if found_task == "sequence_classification":
        probe = _without_decoder_ids(probe)
    num_labels = probe.contract.output_size if (task or found_task) in CLASSIFICATIONS else None
    return probe.knowing(kind=found_kind, task=task or found_task, num_labels=num_labels)


def _without_decoder_ids(probe: Probe) -> Probe:
    """Return the probe of a classifier that makes the decoder's ids from the text, as it is used, if it does."""
    alone = probe.knowing(decoder_ids_argument=None, decoder_mask_argument=None)
    try:
        alone.run(alone.ids())
    except ModelError:
        return probe
    return alone


def _find(probe: Probe, config: Mapping[str, Any]) -> tuple[Any, Logits | None]:
    output = probe.run(probe.ids())
    return output, find_logits(output, probe.batch, probe.length, _likely_sizes(probe, config))


def _likely_sizes(probe: Probe, config: Mapping[str, Any]) -> tuple[int | None, ...]:
    return probe.contract.decoder_vocab_size or probe.contract.vocab_size, config_hints.num_labels_hint(config)


def _is_last_position(logits: Tensor, probe: Probe) -> bool:
    return logits.dim() == 3 and logits.shape[1] == 1 and probe.length > 1


def _is_hidden_state(found: Logits, probe: Probe, config: Mapping[str, Any]) -> bool:
    """Whether what was found is the state of the last layer: as wide as the embedding, and not called logits."""
    size = found.tensor.shape[-1]
    if size in _likely_sizes(probe, config) or (isinstance(found.key, str) and found.key.endswith("logits")):
        return False
    tables = [module for module in probe.model.modules() if isinstance(module, nn.Embedding)]
    widths = {table.embedding_dim for table in tables if table.num_embeddings >= probe.contract.vocab_size}
    return size in {config_hints.find_int(config, config_hints.WIDTH_KEYS), *widths}


def _no_logits(probe: Probe, config: Mapping[str, Any], output: Any) -> ModelError:
    vocab_size, num_labels = _likely_sizes(probe, config)
    return ModelError(
        f"forward of {type(probe.model).__name__} returns {describe_output(output)} "
        f"for token ids of shape {(probe.batch, probe.length)}.",
        f"Expected logits: of shape {(probe.batch, probe.length, vocab_size)} from a language model, "
        f"({probe.batch}, {num_labels or 'classes'}) from a classifier.",
        "Connect the last block to an output block in Transformer Builder, and export again.",
    )


def _find_kind(probe: Probe, config: Mapping[str, Any], stated: str | None, per_token: bool) -> str:
    class_name = type(probe.model).__name__
    if probe.contract.decoder_ids_argument:
        return "encoder-decoder"
    hint = stated or config_hints.kind_hint(config, class_name)
    if hint == "encoder-decoder" and not stated and _says_classifier(config, class_name):
        return "encoder-only"  # The encoder of a family of encoder-decoders, under a head for classes.
    if hint == "encoder-decoder":
        raise ModelError(
            f"The model is said to be an encoder-decoder, but forward of {class_name} takes no decoder ids.",
            "Expected forward(self, input_ids, decoder_input_ids).",
            "Connect a second input block to the decoder, or set model.kind to what the model is.",
        )
    if hint is not None:
        return hint
    # A model that is called a decoder and sees the future is a decoder with a fault, not an encoder.
    is_decoder = config_hints.kind_guess(config, class_name) == "decoder-only"
    if per_token and not is_decoder:
        is_decoder = is_causal(probe) or _has_causal_parts(probe) or infer_loss_shift(probe)[1] == "shifted"
    return "decoder-only" if is_decoder else "encoder-only"


def _says_classifier(config: Mapping[str, Any], class_name: str) -> bool:
    return config_hints.task_hint(config, class_name) in CLASSIFICATIONS


def _has_causal_parts(probe: Probe) -> bool:
    names = [type(module).__name__ for module in probe.model.modules()]
    names += [name for name, _ in probe.model.named_buffers()]
    return any("causal" in name.lower() for name in names)


def _find_task(probe: Probe, config: Mapping[str, Any], kind: str, per_token: bool) -> str:
    if not per_token:
        return "sequence_classification"
    size = probe.contract.output_size
    vocab_size = probe.contract.decoder_vocab_size or probe.contract.vocab_size
    said = config_hints.task_hint(config, type(probe.model).__name__) == "token_classification"
    # A head that is a little off the vocabulary is a language model with a fault.
    if size != vocab_size and (said or size < vocab_size / 2):
        return "token_classification"
    return next(task for task, owner in config_hints.TASK_KINDS.items() if owner == kind)


def _refuse_contradiction(probe: Probe, kind: str | None, task: str | None, found: str, per_token: bool) -> None:
    name = type(probe.model).__name__
    clash = None
    if kind is not None and kind != found:
        clash = f"model.kind is {kind}, but forward of {name} takes decoder ids", "model.kind=encoder-decoder"
    elif task is not None and config_hints.TASK_KINDS.get(task, found) != found:
        clash = f"model.task is {task}, but {name} is {found}", f"a task of {found} models"
    elif task == "sequence_classification" and per_token:
        clash = f"model.task is {task}, but {name} returns logits for each token", "logits for each text"
    elif task not in (None, "sequence_classification") and not per_token:
        clash = f"model.task is {task}, but {name} returns logits for each text", "logits for each token"
    if clash is not None:
        raise ModelError(
            f"{clash[0]}.",
            f"Expected {clash[1]}.",
            "Leave model.kind and model.task out: they are then found.",
        )
