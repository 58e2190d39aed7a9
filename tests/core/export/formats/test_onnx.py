"""From a captured program to ONNX: what is skipped, cut apart, and put before a softmax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.core.export.small_models import make_inputs
from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.formats.onnx import write_onnx
from transformer_foundry.core.export.formats.onnx_optimize import avoid_denormal_softmax


class Attentive(nn.Module):
    """Writes into a new mask, as ``nn.MultiheadAttention`` does, and if wanted into a tensor that is read elsewhere."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(96, 8), nn.Linear(8, 96)
        self.writes = writes

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids)
        first = x[:, :1]
        forbidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        mask = torch.zeros_like(forbidden, dtype=x.dtype).masked_fill_(forbidden, -torch.inf)
        if self.writes:
            x.add_(1.0)  # first is a view of it
        return self.head((x @ x.transpose(1, 2) + mask).softmax(-1) @ x + first)


@pytest.mark.parametrize("writes", [False, True])
def test_only_programs_that_write_are_decomposed(writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decompose = torch.export.ExportedProgram.run_decompositions
    monkeypatch.setattr(
        torch.export.ExportedProgram,
        "run_decompositions",
        lambda *args, **kwargs: calls.append(1) or decompose(*args, **kwargs),
    )
    torch.manual_seed(0)
    model, inputs = Attentive(writes).eval(), make_inputs()
    source = ExportSource(model, inputs, 24)
    before = str(source.program().graph)
    write_onnx(source.program(), source.names, tmp_path / "model.onnx")
    assert bool(calls) == writes
    assert str(source.program().graph) == before
    ids = inputs(4, 9)["input_ids"]
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"input_ids": ids.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(ids).numpy(), rtol=1e-5, atol=1e-5)


def test_a_softmax_after_a_mask_gives_no_denormal_number(tmp_path: Path) -> None:
    shape = ir.Shape([3, 64])
    scores, mask = (
        ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT)) for name in ("scores", "mask")
    )
    masked = ir.node("Add", [scores, mask])
    masked.outputs[0].shape, masked.outputs[0].type = shape, scores.type
    softmax = ir.node("Softmax", [masked.outputs[0]], {"axis": -1})
    softmax.outputs[0].name, softmax.outputs[0].shape, softmax.outputs[0].type = "shares", shape, scores.type
    graph = ir.Graph([scores, mask], softmax.outputs, nodes=[masked, softmax], opset_imports={"": 18}, name="masked")
    avoid_denormal_softmax(graph)
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "masked.onnx")
    given = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    forbidden = np.zeros((3, 64), np.float32)
    forbidden[0, 20:] = forbidden[2] = -np.inf
    (shares,) = onnxruntime.InferenceSession(tmp_path / "masked.onnx").run(None, {"scores": given, "mask": forbidden})
    np.testing.assert_allclose(
        shares, F.softmax(torch.tensor(given + forbidden), -1).numpy(), rtol=1e-6, atol=1e-27, equal_nan=True
    )
    assert np.isnan(shares[2]).all()
    assert (shares[:2] >= np.finfo(np.float32).tiny).all()


class Fused(nn.Module):
    """q, k and v of one product; a cut of a product that is also used whole."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.qkv, self.head = nn.Embedding(96, 8), nn.Linear(8, 18), nn.Linear(6, 96, bias=False)
        self.other = nn.Linear(6, 6)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.tokens(input_ids)).chunk(3, dim=-1)
        whole = self.other(v)
        one, other = whole.split([2, 4], dim=-1)
        x = (q @ k.transpose(1, 2)).softmax(-1) @ v + whole
        return self.head(x + one.sum(-1, keepdim=True) * other.mean(-1, keepdim=True))


def test_a_product_that_is_only_split_becomes_several(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = Fused().eval(), make_inputs()
    source = ExportSource(model, inputs, 24)
    write_onnx(source.program(), source.names, tmp_path / "model.onnx")
    graph = ir.load(tmp_path / "model.onnx").graph
    assert [node.op_type for node in graph].count("Split") == 1
    assert not any(18 in tuple(value.shape) for value in graph.initializers.values())
    ids = inputs(4, 9)["input_ids"]
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"input_ids": ids.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(ids).numpy(), rtol=1e-5, atol=1e-5)
