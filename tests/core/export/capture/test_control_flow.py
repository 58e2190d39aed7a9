"""Loops over time and branches on values in a captured graph."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from tests.core.export import loop_models
from transformer_foundry.core.export.capture.control_flow import Captured
from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.loops.patch_code import called_code, rewritten


def tokens(batch: int, length: int, high: int = 95) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 * batch + length)
    return {"input_ids": torch.randint(0, high, (batch, length), generator=generator)}


def captured(model: nn.Module) -> Captured:
    return ExportSource(model.eval().requires_grad_(False), tokens, 24).control_flow_capture()


@pytest.mark.slow
@pytest.mark.parametrize("kind", loop_models.LOOPS)
def test_a_loop_gives_the_models_logits_at_every_length(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    graph = captured(model).program.module()
    for batch, length in ((1, 1), (4, 1), (3, 2), (2, 8), (2, 9), (1, 24)):
        given = tokens(batch, length)
        torch.testing.assert_close(graph(*given.values()), model(**given))


@pytest.mark.parametrize("kind", [loop_models.Flagged, loop_models.Halting])
def test_a_fixed_branch_returns_nan_in_the_other_case(kind: type[nn.Module]) -> None:
    model = kind()
    found = captured(model)
    graph, given = found.program.module(), tokens(2, 9)
    torch.testing.assert_close(graph(*given.values()), model(**given))
    given["input_ids"][1, 3] = 95
    assert graph(*given.values()).isnan().all()
    assert {place.partition(":")[0] for place in found.assumed} == {"loop_models.py"}


def test_the_models_code_is_restored_after_a_failure() -> None:
    model = loop_models.Appending()
    before = loop_models.Appending.run.__code__
    codes = called_code(lambda: model(**tokens(2, 3)))
    with contextlib.suppress(KeyError), rewritten(codes) as count:
        assert count == 1
        assert loop_models.Appending.run.__code__ is not before
        raise KeyError
    assert loop_models.Appending.run.__code__ is before


def test_rewritten_code_does_the_same_without_a_graph() -> None:
    for kind in loop_models.LOOPS:
        model, given = kind(), tokens(3, 9)
        expected = model(**given)
        with rewritten(called_code(lambda model=model, given=given: model(**given))) as count:  # type: ignore[misc]
            assert count >= 1
            torch.testing.assert_close(model(**given), expected)
