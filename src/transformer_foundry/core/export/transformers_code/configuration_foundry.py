"""Configuration of a model that was drawn in Transformer Builder, for transformers (``trust_remote_code=True``)."""

from typing import Any

from transformers import PretrainedConfig

__all__ = ["FoundryConfig"]


class FoundryConfig(PretrainedConfig):
    """The settings that transformers knows by name, and in ``foundry`` all that the model itself needs.

    Args:
        foundry: ``expression`` builds the model from ``config`` with the names of ``model.py``; ``contract`` says how
            it is called; ``buffers`` names the non-persistent buffers that are kept with the weights.
        **settings: The settings of transformers.
    """

    model_type = "transformer_foundry"

    def __init__(self, foundry: dict[str, Any] | None = None, **settings: Any) -> None:
        self.foundry = foundry or {}
        # There is no cache: each step of generate runs the whole model.
        settings["use_cache"] = False
        # Ties are the model's own affair.
        settings["tie_word_embeddings"] = False
        super().__init__(**settings)
