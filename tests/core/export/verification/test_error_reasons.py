"""Reasons that the manifest gives for a format that could not be made."""

from __future__ import annotations

import pytest

from transformer_foundry.core.export.verification.error_reasons import explain, explain_error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("GuardOnDataDependentSymNode: Could not guard on data-dependent expression", "depends on the values"),
        ("ModuleNotFoundError: No module named 'onnxscript'", "pip install onnx onnxscript"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_a_known_error_is_explained_in_plain_english(text: str, words: str) -> None:
    assert words in explain(text)
    assert text in explain(text)


def test_a_size_that_is_fixed_is_named() -> None:
    text = (
        "UserError: You marked L['tensors'][1].size()[0] as dynamic but your code specialized it to be a constant (3)."
    )
    reason = explain(text, {"input_ids": ("batch", "length"), "attention_mask": ("batch", "length")})
    assert "dimension 0 of attention_mask (batch) to 3" in reason


def test_the_first_error_of_a_chain_comes_first() -> None:
    error = RuntimeError("conversion failed")
    error.__cause__ = KeyError("aten.eigh")
    assert explain_error(error).startswith("KeyError: 'aten.eigh'")
