"""Infer the contract of a model: kind and task, the role of each argument, output, sizes and special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError, suggestion
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.failure_causes import ids_as_numbers, missing_forward, number_inputs
from transformer_foundry.core.models.inference.argument_roles import read_roles
from transformer_foundry.core.models.inference.behavior import infer_loss_shift
from transformer_foundry.core.models.inference.input_forms import batch_argument, is_time_first, keys_of_batch
from transformer_foundry.core.models.inference.mask_conventions import infer_causal_masks, infer_padding_masks
from transformer_foundry.core.models.inference.probe import first_probe
from transformer_foundry.core.models.inference.sizes import infer_sizes
from transformer_foundry.core.models.inference.task import infer_kind_and_task, infer_output
from transformer_foundry.core.models.options import KINDS, TASKS, normalize_kind
from transformer_foundry.core.models.side_effects import no_side_effects

__all__ = ["infer_contract"]


def infer_contract(
    model: nn.Module, export_config: Mapping[str, Any], *, kind: str | None = None, task: str | None = None
) -> Contract:
    """Infer the contract of ``model`` from its configuration, its signature and its behavior.

    The model is called a few dozen times on tiny inputs. Its weights, training flags and buffers and the global random
    state are left unchanged.

    Args:
        model: The model.
        export_config: Content of its ``config.json``.
        kind: The kind; None infers it.
        task: The task; None infers it.

    Raises:
        ModelError: If the model cannot be called, or returns nothing that looks like logits.
    """
    kind, task = _checked(normalize_kind(kind), KINDS, "kind"), _checked(task, TASKS, "task")
    no_forward = missing_forward(model, export_config)
    if no_forward is not None:
        raise no_forward
    roles = read_roles(model, export_config, kind)
    with no_side_effects(model):
        try:
            probe = first_probe(model, roles, export_config)
        except ModelError as err:
            argument = batch_argument(model)
            numbers = number_inputs(model, argument, err) if argument else None
            if numbers is not None:
                raise numbers from None
            keys = keys_of_batch(model, argument) if argument else {}
            if not keys:
                raise
            roles = read_roles(model, export_config, kind, keys)
            probe = first_probe(model, roles, export_config, argument)
        numbers = ids_as_numbers(model, roles.ids, probe.ids())
        if numbers is not None:
            raise numbers
        probe = probe.with_contract(time_first=is_time_first(probe))
        probe = infer_sizes(probe, export_config)
        probe = infer_output(probe, export_config)
        causal = [name for name, value in probe.contract.fixed_arguments if value.startswith("causal")]
        if causal and probe.logits(probe.ids()).dim() == 3:
            # Only with its mask in the right form does a model show whether it sees the future.
            probe = infer_causal_masks(probe, causal)
        probe = infer_kind_and_task(probe, export_config, kind, task)
        probe = infer_causal_masks(probe, roles.required_masks)
        probe = infer_padding_masks(probe)
        computes_loss, shift = infer_loss_shift(probe)
    return probe.with_contract(
        computes_loss=computes_loss, loss_shift=shift, tied_weights=_tied_weights(model)
    ).contract


def _checked(value: str | None, choices: tuple[str, ...], what: str) -> str | None:
    if value is not None and value not in choices:
        raise ModelError(
            f"model.{what} is '{value}'.{suggestion(value, choices)}",
            f"Expected one of: {', '.join(choices)}.",
            f"Correct model.{what}, or remove it to let Foundry infer it.",
        )
    return value


def _tied_weights(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return groups of parameter names that share storage; a transposed view counts as the same weights."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.numel() and not parameter.is_meta:
            key = (parameter.untyped_storage().data_ptr(), parameter.storage_offset(), parameter.numel())
            groups.setdefault(key, []).append(name)
    return tuple(tuple(sorted(names)) for names in groups.values() if len(names) > 1)
