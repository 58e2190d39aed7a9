"""Configuration of a model that was drawn in Transformer Builder, for transformers (``trust_remote_code=True``)."""

from typing import Any

from transformers import PretrainedConfig

__all__ = ["FoundryConfig"]


class FoundryConfig(PretrainedConfig):
    """Settings of transformers, and in ``foundry`` those that the model itself needs.

    Args:
        foundry: ``expression`` builds the model from ``config`` with the names of ``model.py``; ``contract`` describes
            its call; ``buffers`` names the non-persistent buffers that are kept with the weights.
        **settings: Settings of transformers.
    """

    model_type = "transformer_foundry"

    def __init__(self, foundry: dict[str, Any] | None = None, **settings: Any) -> None:
        self.foundry = foundry or {}
        # There is no cache: each step of generate runs the whole model.
        settings["use_cache"] = False
        # The model ties its weights itself.
        settings["tie_word_embeddings"] = False
        super().__init__(**settings)
