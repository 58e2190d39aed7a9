"""Infer the kind and task of a model from its output and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.inference.behavior import infer_loss_shift, is_causal
from transformer_foundry.core.models.inference.output_format import Logits, describe_output, find_logits
from transformer_foundry.core.models.inference.probe import Probe

__all__ = ["infer_kind_and_task", "infer_output"]

CLASSIFICATIONS = ("sequence_classification", "token_classification")


def infer_output(probe: Probe, config: Mapping[str, Any]) -> Probe:
    """Return the probe with the form, key and size of the logits known.

    Raises:
        ModelError: If the output contains no logits for each position or for each sequence.
    """
    output, found = _find(probe, config)
    labels = probe.contract.labels_argument
    if found is not None and _is_last_position(found.tensor, probe) and labels is not None:
        # As in nanoGPT: without labels only the logits of the last position are computed.
        probe = replace(probe, contract=probe.contract.with_fixed_arguments([labels], "ids"))
        output, found = _find(probe, config)
    if found is None or _is_last_position(found.tensor, probe) or _is_hidden_state(found, probe, config):
        raise _no_logits(probe, config, output)
    size = found.tensor.shape[-1]
    if found.tensor.dim() == 2 and size == probe.contract.vocab_size and size != config_hints.num_labels_hint(config):
        raise _no_logits(probe, config, output)
    if found.tensor.dim() == 2 and size == 1:
        raise ModelError(
            f"forward of {type(probe.model).__name__} returns one number per text.",
            "Expected one score per class: (batch, classes), with at least 2 classes.",
            "Set the size of the output block to the number of classes, and export again.",
        )
    return probe.with_contract(output=found.form, logits_key=found.key, output_size=size)


def infer_kind_and_task(probe: Probe, config: Mapping[str, Any], kind: str | None, task: str | None) -> Probe:
    """Return the probe with kind and task known.

    Args:
        probe: A probe whose output is known.
        config: Content of ``config.json``.
        kind: The kind, if the user sets it.
        task: The task, if the user sets it.

    Raises:
        ModelError: If the stated kind or task does not fit the inputs and outputs of the model.
    """
    per_token = probe.logits(probe.ids()).dim() == 3
    found_kind = _find_kind(probe, config, kind or config_hints.TASK_KINDS.get(task or ""), per_token)
    found_task = _find_task(probe, config, found_kind, per_token)
    _refuse_contradiction(probe, kind, task, found_kind, per_token)
    if found_task == "sequence_classification":
        probe = _without_decoder_ids(probe)
    num_labels = probe.contract.output_size if (task or found_task) in CLASSIFICATIONS else None
    return probe.with_contract(kind=found_kind, task=task or found_task, num_labels=num_labels)


def _without_decoder_ids(probe: Probe) -> Probe:
    """Return the probe without decoder ids if the classifier derives them from the text itself."""
    alone = probe.with_contract(decoder_ids_argument=None, decoder_mask_argument=None)
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
    """Return whether the output is the last hidden state: as wide as the embedding, and not named logits."""
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
        f"Expected logits of shape {(probe.batch, probe.length, vocab_size)} from a language model, "
        f"({probe.batch}, {num_labels or 'classes'}) from a classifier.",
        "Connect the last block to an output block in Transformer Builder, and export again.",
    )


def _find_kind(probe: Probe, config: Mapping[str, Any], stated: str | None, per_token: bool) -> str:
    class_name = type(probe.model).__name__
    if probe.contract.decoder_ids_argument:
        return "encoder-decoder"
    hint = stated or config_hints.kind_hint(config, class_name)
    if hint == "encoder-decoder" and not stated and _is_named_classifier(config, class_name):
        return "encoder-only"  # the encoder of an encoder-decoder family with a classification head
    if hint == "encoder-decoder":
        raise ModelError(
            f"The model is declared an encoder-decoder, but forward of {class_name} takes no decoder ids.",
            "Expected forward(self, input_ids, decoder_input_ids).",
            "Connect a second input block to the decoder, or set model.kind to the kind of the model.",
        )
    if hint is not None:
        return hint
    # A model named a decoder that sees the future is a faulty decoder, not an encoder.
    is_decoder = config_hints.kind_guess(config, class_name) == "decoder-only"
    if per_token and not is_decoder:
        is_decoder = is_causal(probe) or _has_causal_parts(probe) or infer_loss_shift(probe)[1] == "shifted"
    return "decoder-only" if is_decoder else "encoder-only"


def _is_named_classifier(config: Mapping[str, Any], class_name: str) -> bool:
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
    is_named_so = config_hints.task_hint(config, type(probe.model).__name__) == "token_classification"
    # A head whose size is close to the vocabulary belongs to a faulty language model.
    if size != vocab_size and (is_named_so or size < vocab_size / 2):
        return "token_classification"
    return next(task for task, owner in config_hints.TASK_KINDS.items() if owner == kind)


def _refuse_contradiction(probe: Probe, kind: str | None, task: str | None, found: str, per_token: bool) -> None:
    name = type(probe.model).__name__
    contradiction = None
    if kind is not None and kind != found:
        contradiction = f"model.kind is {kind}, but forward of {name} takes decoder ids", "model.kind=encoder-decoder"
    elif task is not None and config_hints.TASK_KINDS.get(task, found) != found:
        contradiction = f"model.task is {task}, but {name} is {found}", f"a task of {found} models"
    elif task == "sequence_classification" and per_token:
        contradiction = f"model.task is {task}, but {name} returns logits for each token", "one set of logits per text"
    elif task not in (None, "sequence_classification") and not per_token:
        contradiction = f"model.task is {task}, but {name} returns logits for each text", "logits for each token"
    if contradiction is not None:
        raise ModelError(
            f"{contradiction[0]}.",
            f"Expected {contradiction[1]}.",
            "Remove model.kind and model.task to let Foundry infer them.",
        )
