"""Dimensions, examples, and what exporters are given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.core.export.small_models import Branching, make_inputs
from transformer_foundry.core.export.capture.export_source import ExportSource, dynamic_dims
from transformer_foundry.core.export.capture.torch_export import exporting_patches


def test_dimensions_are_named_after_what_they_follow() -> None:
    assert dynamic_dims(make_inputs(masks=True, decoder=True), 24) == {
        "input_ids": ("batch", "length"),
        "decoder_input_ids": ("batch", "decoder_input_ids_length"),
        "attention_mask": ("batch", "length"),
        "decoder_attention_mask": ("batch", "decoder_input_ids_length"),
    }


def test_a_constant_dimension_keeps_its_size() -> None:
    def inputs(batch: int, length: int) -> dict[str, Tensor]:
        return {"x": torch.zeros(batch, length, 16), "mask": torch.zeros(length, length)}

    assert dynamic_dims(inputs, 24) == {"x": ("batch", "length", 16), "mask": ("length", "length")}


@pytest.mark.parametrize("longest", [4, 5, 8, 24, 1000])
@pytest.mark.parametrize("decoder", [False, True])
def test_the_sizes_of_an_example_are_distinct_and_at_least_two(longest: int, decoder: bool) -> None:
    source = ExportSource(nn.Identity(), make_inputs(decoder=decoder, max_length=longest), longest)
    shapes = [tuple(tensor.shape) for tensor in source.example_tensors().values()]
    sizes = {size for shape in shapes for size in shape}
    assert len(sizes) == 2 + decoder
    assert min(sizes) >= 2
    assert all(shape[1] <= longest for shape in shapes)


def test_sizes_that_a_branch_excludes_are_supported_and_verified() -> None:
    model, inputs = Branching(harmless=True), make_inputs()
    source = ExportSource(model, inputs, 24)
    module = source.program().module()
    assert {(1, 6), (1, 7)} <= set(source.relaxed_shapes)
    for batch, length in ((1, 1), (3, 6), (2, 24)):
        torch.testing.assert_close(module(inputs(batch, length)["input_ids"]), model(**inputs(batch, length)))


def test_the_patches_are_removed_after_a_failure() -> None:
    before = nn.modules.transformer._detect_is_causal_mask, torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(KeyError), exporting_patches():
        raise KeyError
    assert before == (nn.modules.transformer._detect_is_causal_mask, torch.backends.mha.get_fastpath_enabled())
