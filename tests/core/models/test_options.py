"""Options of the model are checked and normalized."""

from __future__ import annotations

from transformer_foundry.core.models import ModelOptions


def test_options_take_a_kind_in_either_spelling() -> None:
    assert ModelOptions(kind="encoder_decoder").kind == "encoder-decoder"
