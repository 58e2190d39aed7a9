"""Infer the kind and task of a model from its output and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.failure_causes import output_causes, remedy_for
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.inference.behavior import infer_loss_shift, is_causal
from transformer_foundry.core.models.inference.output_format import Logits, describe_output, find_logits
from transformer_foundry.core.models.inference.probe import Probe
from transformer_foundry.core.models.options import TEXT_TASKS

__all__ = ["infer_kind_and_task", "infer_output"]

CLASSIFICATIONS = (*TEXT_TASKS, "token_classification")
_RANDOM_WEIGHTS = 4  # sets, with which scores that are not squashed leave (0, 1)
_SUM_TOLERANCE = 1e-3


def infer_output(probe: Probe, config: Mapping[str, Any]) -> Probe:
    """Return the probe with the form, key and size of the logits known.

    Raises:
        ModelError: If the output contains no logits for each position or for each sequence.
    """
    output, found = _find(probe, config)
    labels = probe.contract.labels_argument
    if labels is not None and (
        found is None or _is_last_position(found.tensor, probe) or _is_hidden_state(found, probe, config)
    ):
        # As in nanoGPT: without labels only the logits of the last position are computed, or none at all.
        given = replace(probe, contract=probe.contract.with_fixed_arguments([labels], "ids"))
        with_labels = _find(given, config)
        if with_labels[1] is not None:
            probe, (output, found) = given, with_labels
    if found is None or _is_hidden_state(found, probe, config):
        raise _no_logits(probe, config, output)
    size = found.tensor.shape[-1]
    is_vocabulary = size == probe.contract.vocab_size and size != config_hints.num_labels_hint(config)
    if is_vocabulary and (found.tensor.dim() == 2 or _is_last_position(found.tensor, probe)):
        probe = probe.with_contract(next_token_only=True)
    probe = probe.with_contract(output=found.form, logits_key=found.key, output_size=size)
    is_squashed = found.tensor.dim() == 2 and not probe.contract.next_token_only and _ends_with_sigmoid(probe)
    return probe.with_contract(output_activation="sigmoid") if is_squashed else probe


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
    if probe.contract.next_token_only:
        if task not in CLASSIFICATIONS and kind in (None, "decoder-only"):
            return probe.with_contract(kind="decoder-only", task="causal_lm")
        probe = probe.with_contract(next_token_only=False)
    per_token = probe.logits(probe.ids()).dim() == 3
    found_kind = _find_kind(probe, config, kind or config_hints.TASK_KINDS.get(task or ""), per_token)
    found_task = _find_task(probe, config, found_kind, per_token)
    _refuse_contradiction(probe, kind, task, found_kind, per_token)
    if found_task in TEXT_TASKS:
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
    shapes = [(probe.batch, probe.length)]
    if probe.contract.time_first:
        shapes.insert(0, (probe.length, probe.batch))
    found = (find_logits(output, *shape, _likely_sizes(probe, config)) for shape in shapes)
    return output, next((logits for logits in found if logits is not None), None)


def _likely_sizes(probe: Probe, config: Mapping[str, Any]) -> tuple[int | None, ...]:
    return probe.contract.decoder_vocab_size or probe.contract.vocab_size, config_hints.num_labels_hint(config)


def _is_last_position(logits: Tensor, probe: Probe) -> bool:
    return logits.dim() == 3 and logits.shape[1] == 1 and probe.length > 1


def _ends_with_sigmoid(probe: Probe) -> bool:
    """Return whether the scores of texts stay within (0, 1) whatever the weights are, and do not sum to 1."""
    ids, found = probe.ids(), [probe.logits(probe.ids())]
    for seed in range(_RANDOM_WEIGHTS if bool(((found[0] >= 0) & (found[0] <= 1)).all()) else 0):
        generator = torch.Generator().manual_seed(seed)
        random = {
            name: torch.empty(weight.shape).normal_(generator=generator).to(weight)
            for name, weight in probe.model.named_parameters()
            if weight.is_floating_point()
        }
        try:
            found.append(replace(probe, weights=random).logits(ids))
        except ModelError:
            return False
    scores = torch.stack(found)
    sums_to_one = scores.shape[-1] > 1 and bool(((scores.sum(-1) - 1).abs() < _SUM_TOLERANCE).all())
    return bool(((scores >= 0) & (scores <= 1)).all()) and not sums_to_one and float(scores.std()) > 0


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
    problem = (
        f"forward of {type(probe.model).__name__} returns {describe_output(output)} "
        f"for token ids of shape {(probe.batch, probe.length)}."
    )
    cause = output_causes(probe.model, output, _called_modules(probe), _likely_sizes(probe, config))
    problem, written = cause or (
        problem,
        "Let forward return what the layer with one output for each of them computes.",
    )
    return ModelError(
        problem,
        f"Expected logits of shape {(probe.batch, probe.length, vocab_size)} from a language model, "
        f"({probe.batch}, {num_labels or 'classes'}) from a classifier.",
        remedy_for(
            config, written, "Connect the last block to an output block in Transformer Builder, and export again."
        ),
    )


def _called_modules(probe: Probe) -> list[nn.Module]:
    called: list[nn.Module] = []
    hooks = [module.register_forward_hook(lambda module, *_: called.append(module)) for module in probe.model.modules()]
    try:
        probe.run(probe.ids())
    finally:
        for hook in hooks:
            hook.remove()
    return called


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
    if hint == "encoder-only" and per_token and not stated and config_hints.kind_hint(config, "") is None:
        # Only the name says so: what the model does counts more.
        return "decoder-only" if is_causal(probe) else hint
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
        hint = config_hints.task_hint(config, type(probe.model).__name__)
        is_possible = hint in TEXT_TASKS and (hint != "regression" or probe.contract.output_size == 1)
        return hint if hint is not None and is_possible else "sequence_classification"
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
    elif task in TEXT_TASKS and per_token:
        contradiction = f"model.task is {task}, but {name} returns logits for each token", "one set of logits per text"
    elif task is not None and task not in TEXT_TASKS and not per_token:
        contradiction = f"model.task is {task}, but {name} returns logits for each text", "logits for each token"
    elif task == "regression" and probe.contract.output_size != 1:
        size = probe.contract.output_size
        contradiction = f"model.task is regression, but {name} returns {size} scores per text", "one number per text"
    if contradiction is not None:
        raise ModelError(
            f"{contradiction[0]}.",
            f"Expected {contradiction[1]}.",
            "Remove model.kind and model.task to let Foundry infer them.",
        )
