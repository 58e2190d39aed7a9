"""The same call for every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from transformer_foundry.core.models.building.build import build_model
from transformer_foundry.core.models.inference.call import call_arguments, pick_logits
from transformer_foundry.core.models.inference.infer_contract import Contract, infer_contract
from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["Adapter", "adapt", "bare_model", "load_model"]


class Adapter(nn.Module):
    """A model behind one signature, whatever its own is.

    Args:
        model: The model, trained and saved as it is.
        contract: Its contract.
    """

    def __init__(self, model: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.model = model
        self.contract = contract
        for module in model.modules():
            if isinstance(module, nn.TransformerEncoder):
                # In eval mode nested tensors cut the output to the longest real sequence of the batch (torch 2.13).
                module.enable_nested_tensor = False
                module.use_nested_tensor = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the logits.

        Args:
            input_ids: (B, T) int64 token ids.
            attention_mask: (B, T) int64, 1 where a token is real; passed on only if the model takes a padding mask.
            decoder_input_ids: (B, S) int64, for an encoder-decoder.
            decoder_attention_mask: (B, S) int64, 1 where a decoder token is real.

        Returns:
            (B, T, V) for a language model, (B, S, V) for an encoder-decoder, (B, C) or (B, T, C) for a classifier.
        """
        arguments = call_arguments(self.contract, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask)
        return pick_logits(self.contract, self.model(**arguments))


def adapt(
    model: nn.Module, config: Mapping[str, Any] | None = None, *, kind: str | None = None, task: str | None = None
) -> Adapter:
    """Find the contract of any module and adapt it, for training or exporting it without an export.

    Args:
        model: The model; what its arguments and outputs mean is found by their names and by trying.
        config: What is known of it, by the names of Hugging Face (``vocab_size``, ``pad_token_id`` ...).
        kind: The kind, if it is known; found otherwise.
        task: The task, if it is known; found otherwise.

    Raises:
        ModelError: If it cannot be called.
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
    """Build the model of ``export``, find its contract and adapt it.

    Args:
        export: The export, as ``read_export`` returns it.
        kind: The kind, if it is known; found otherwise.
        task: The task, if it is known; found otherwise.
        overrides: Values that replace those of ``config.json``.
        seed: Seed of the initial weights; None leaves them to the global random state.

    Raises:
        ModelError: If the model cannot be built or called, with the line of ``model.py``.
    """
    model = build_model(export, overrides, seed=seed)
    config = {**export.config, **(overrides or {})}
    return Adapter(model, infer_contract(model, config, kind=kind, task=task))


def bare_model(adapter: nn.Module) -> nn.Module:
    """Return the user's model inside an ``Adapter``; any other module is returned as it is."""
    return adapter.model if hasattr(adapter, "contract") and isinstance(adapter.model, nn.Module) else adapter
