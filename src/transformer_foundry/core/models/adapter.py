"""One forward signature for every exported model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from transformer_foundry.core.models.building.build import build_model
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.inference.call import call_arguments, pick_logits
from transformer_foundry.core.models.inference.infer_contract import infer_contract
from transformer_foundry.core.models.inference.own_loss import OwnTerms, own_loss_of
from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["Adapter", "adapt", "bare_model", "load_model"]


class Adapter(nn.Module):
    """A model with the forward signature that Foundry uses for all models.

    Args:
        model: The model; it is not changed.
        contract: Its contract.
    """

    def __init__(self, model: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.model = model
        self.contract = contract
        for module in model.modules():
            if isinstance(module, nn.TransformerEncoder):
                # Nested tensors in eval mode shorten the output to the longest real sequence of the batch (torch 2.13).
                module.enable_nested_tensor = False
                module.use_nested_tensor = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        own_terms: OwnTerms | None = None,
        labels: Tensor | None = None,
    ) -> Any:
        """Return the logits, and with ``own_terms`` also the loss that the model returns.

        Args:
            input_ids: (B, T) int64 token ids.
            attention_mask: (B, T) int64, 1 where a token is real; ignored if the model takes no padding mask.
            decoder_input_ids: (B, S) int64, for an encoder-decoder.
            decoder_attention_mask: (B, S) int64, 1 where a decoder token is real.
            own_terms: How the model's own loss is computed; None ignores it.
            labels: The labels of the batch, whose shape the model's loss needs.

        Returns:
            (B, T, V) for a language model, (B, S, V) for an encoder-decoder, (B, C) or (B, T, C) for a classifier;
            with ``own_terms`` a tuple of them and the loss, a scalar.
        """
        given = (input_ids, attention_mask, decoder_input_ids, decoder_attention_mask)
        if own_terms is None or labels is None:
            return pick_logits(self.contract, self.model(**call_arguments(self.contract, *given)))
        output = self.model(**call_arguments(self.contract, *given, own_terms.labels_like(labels)))
        return pick_logits(self.contract, output), own_loss_of(output, takes_labels=own_terms.takes_labels)


def adapt(
    model: nn.Module, config: Mapping[str, Any] | None = None, *, kind: str | None = None, task: str | None = None
) -> Adapter:
    """Infer the contract of any module and adapt it, for training or exporting a module without an export.

    Args:
        model: The model; the meaning of its arguments and outputs is inferred by name and by calling it.
        config: Known sizes and token ids, with the names of Hugging Face (``vocab_size``, ``pad_token_id`` ...).
        kind: The kind; None infers it.
        task: The task; None infers it.

    Raises:
        ModelError: If the model cannot be called.
    """
    return Adapter(model, infer_contract(model, config or {}, kind=kind, task=task))


def load_model(
    export: ModelSource,
    *,
    kind: str | None = None,
    task: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = 0,
) -> Adapter:
    """Build the model of ``export``, infer its contract and adapt it.

    Args:
        export: The export, as ``read_export`` returns it.
        kind: The kind; None infers it.
        task: The task; None infers it.
        overrides: Values that replace those of ``config.json``.
        seed: Seed of the initial weights; None uses the global random state.

    Raises:
        ModelError: If the model cannot be built or called; names the line of ``model.py``.
    """
    model = build_model(export, overrides, seed=seed)
    config = {**export.config, **(overrides or {})}
    return Adapter(model, infer_contract(model, config, kind=kind, task=task))


def bare_model(adapter: nn.Module) -> nn.Module:
    """Return the model inside an ``Adapter``, or the module itself if it is no ``Adapter``."""
    return adapter.model if hasattr(adapter, "contract") and isinstance(adapter.model, nn.Module) else adapter
