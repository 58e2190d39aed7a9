"""Logits in the outputs of models."""

from __future__ import annotations

import pytest
import torch

from transformer_foundry.core.models.inference.output_format import logits_of


def test_logits_are_found_in_any_output() -> None:
    logits = torch.zeros(1)
    for output in (logits, (logits, None), [None, logits], {"loss": None, "logits": logits}, {"a": logits}):
        assert logits_of(output) is logits


def test_an_output_without_tensors_is_refused() -> None:
    with pytest.raises(TypeError, match="no tensor"):
        logits_of({"logits": "text"})
