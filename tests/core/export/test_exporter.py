"""Formats of small models of the three kinds, run again here at shapes of the tests' own choosing."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils import weight_norm

from tests.core.export import small_models
from tests.core.export.conftest import Exported
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export import export_model
from transformer_foundry.core.export.formats.table import FORMATS

pytestmark = pytest.mark.usefixtures("verified_in_forks")

SHAPES = ((1, 1), (2, 1), (3, 24), (7, 13))
EXACT = [name for name, item in FORMATS.items() if not item.is_variant]


@pytest.mark.slow
def test_all_formats_of_the_three_kinds_are_verified(exported: Exported) -> None:
    assert {entry["format"]: entry["status"] for entry in exported.manifest["formats"]} == dict.fromkeys(
        FORMATS, "verified"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_the_manifest_records_what_was_verified(exported: Exported, name: str) -> None:
    entry = exported.entry(name)
    shapes = {(row["batch"], row["length"]) for row in entry["shapes"]}
    example = exported.manifest["example"]
    assert len(shapes - {(example["batch"], example["length"])}) >= 5
    assert {1, 24} <= {length for _, length in shapes}
    if name in EXACT:
        assert 0 <= entry["max_abs_error"] <= entry["tolerance"]
    data = (exported.folder / entry["file"]).read_bytes()
    assert (entry["sha256"], entry["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))


def assert_same_logits(exported: Exported, run: Callable[..., Any]) -> None:
    """``run`` takes the tensors in order and returns what can be made a tensor."""
    for shape in SHAPES:
        tensors = exported.inputs(*shape)
        real = tensors.get("decoder_input_ids", tensors["input_ids"]) != 0
        logits, expected = torch.as_tensor(run(*tensors.values())), exported.logits(*shape)
        torch.testing.assert_close(logits[real], expected[real], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_captured_program_gives_the_models_logits(exported: Exported) -> None:
    assert_same_logits(exported, torch.export.load(exported.folder / "model.pt2").module())


@pytest.mark.slow
def test_the_onnx_file_gives_the_models_logits(exported: Exported) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [item["name"] for item in exported.manifest["inputs"]]
    assert [item.name for item in session.get_inputs()] == names
    assert [item.shape[:2] for item in session.get_inputs()] == [item["shape"] for item in exported.manifest["inputs"]]
    feed = lambda tensors: {name: value.numpy() for name, value in zip(names, tensors, strict=True)}  # noqa: E731
    assert_same_logits(exported, lambda *tensors: session.run(["logits"], feed(tensors))[0])


@pytest.mark.slow
def test_the_torchscript_file_gives_the_models_logits(exported: Exported) -> None:
    assert_same_logits(exported, torch.jit.load(exported.folder / "model.torchscript.pt"))


@pytest.mark.slow
def test_the_model_is_left_as_it_was(exported: Exported) -> None:
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(isinstance(value, torch._subclasses.FakeTensor) for value in exported.model.state_dict().values())


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    model = small_models.RotaryGpt()
    export_model(model, small_models.make_inputs(), tmp_path, ["pytorch"], max_length=24)
    saved = load_file(tmp_path / "model.safetensors")
    assert "wte.weight" in saved
    assert "lm_head.weight" not in saved
    assert sum(value.numel() for value in saved.values()) == sum(value.numel() for value in model.parameters())


@pytest.mark.slow
def test_a_format_that_is_right_only_at_the_examples_length_is_not_shipped(tmp_path: Path) -> None:
    manifest = export_model(small_models.BakedLength(), small_models.make_inputs(), tmp_path, EXACT, max_length=24)
    found = {entry["format"]: (entry["status"], entry.get("stage")) for entry in manifest["formats"]}
    refused = dict.fromkeys(("pt2", "onnx"), ("failed", "export"))
    assert found == {"pytorch": ("verified", None), "torchscript": ("failed", "parity"), **refused}
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "manifest.json"}
    reasons = {entry["format"]: entry["reason"] for entry in manifest["formats"] if "reason" in entry}
    assert "length" in reasons["pt2"]
    assert "at (batch, length) = " in reasons["torchscript"]


@pytest.mark.slow
@pytest.mark.parametrize("table_size", [24, 36])
def test_a_mask_sliced_from_a_table_supports_every_length(tmp_path: Path, table_size: int) -> None:
    model, inputs = small_models.TableGpt(table_size=table_size).eval(), small_models.make_inputs(masks=True)
    manifest = export_model(model, inputs, tmp_path, ["pt2", "onnx"], max_length=24)
    assert [entry["status"] for entry in manifest["formats"]] == ["verified", "verified"]
    program = torch.export.load(tmp_path / "model.pt2").module()
    for length in range(1, 25):
        tensors = inputs(2, length)
        real = tensors["attention_mask"] == 1
        torch.testing.assert_close(program(*tensors.values())[real], model(**tensors)[real], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_branch_that_matters_is_found_by_verification(tmp_path: Path) -> None:
    model, inputs = small_models.Branching(harmless=False), small_models.make_inputs()
    entry = export_model(model, inputs, tmp_path, ["pt2"], max_length=24)["formats"][0]
    assert (entry["status"], entry["stage"]) == ("failed", "parity")
    assert "(batch, length) = " in entry["reason"]


@pytest.mark.slow
def test_a_loop_over_time_is_kept_by_compilation(tmp_path: Path) -> None:
    inputs = small_models.make_inputs()
    manifest = export_model(small_models.Recurrent(), inputs, tmp_path, ["torchscript"], max_length=24)
    assert manifest["formats"][0]["status"] == "verified"


@pytest.mark.slow
def test_an_operation_that_onnx_lacks_is_named_without_printing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = small_models.make_inputs()
    manifest = export_model(small_models.Eigenvalues(), inputs, tmp_path, ["onnx"], max_length=24)
    assert "operation that ONNX does not have" in manifest["formats"][0]["reason"]
    assert capfd.readouterr() == ("", "")


def test_a_model_that_returns_nan_is_refused(tmp_path: Path) -> None:
    model = small_models.RotaryGpt()
    torch.nn.init.constant_(model.wte.weight, float("nan"))
    with pytest.raises(DeploymentError, match="not a number"):
        export_model(model, small_models.make_inputs(), tmp_path, ["pytorch"], max_length=24)


class Forbidding(small_models.RotaryGpt):
    """Forbids the padding token with a large number; dropout works in evaluation mode too where that is asked for."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.wte = weight_norm(self.wte)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.dropout(super().forward(input_ids), self.dropout)
        return logits.masked_fill(torch.arange(96) == 0, -1e9)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_substitute_for_infinity_does_not_increase_the_tolerance(tmp_path: Path) -> None:
    model = Forbidding()
    model(torch.ones(1, 2, dtype=torch.long))  # leaves a weight with a history, which deepcopy refuses
    manifest = export_model(model, small_models.make_inputs(), tmp_path, ["pytorch"], max_length=24)
    assert manifest["formats"][0]["status"] == "verified"
    assert manifest["formats"][0]["tolerance"] < 1


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_nondeterministic_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="different logits for the same input"):
        export_model(Forbidding(dropout=0.5), small_models.make_inputs(), tmp_path, ["pytorch"], max_length=24)


def test_a_model_that_fails_at_its_greatest_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="itself fails"):
        export_model(small_models.RotaryGpt(), small_models.make_inputs(), tmp_path, ["pytorch"], max_length=25)


def test_an_unknown_format_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="Did you mean 'onnx'"):
        export_model(small_models.RotaryGpt(), small_models.make_inputs(), tmp_path, ["onxx"])


def test_no_deprecation_warning_reaches_the_user(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = export_model(
            small_models.RotaryGpt(), small_models.make_inputs(), tmp_path, ["torchscript"], max_length=24
        )
    assert {entry["status"] for entry in manifest["formats"]} == {"verified"}
