"""The smaller variants of an ONNX file: what they weigh, what they predict, and what is not shipped."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from tests.core.export import small_models
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export import export_model, files
from transformer_foundry.core.export.formats.smaller_onnx import write_half_weights, write_int8
from transformer_foundry.core.export.verification import quality
from transformer_foundry.core.export.verification.parity import Case
from transformer_foundry.core.export.verification.quality import Score, difference, judge_variant, score_logits
from transformer_foundry.core.files.atomic import sha256_of

INPUTS = small_models.make_inputs(vocab_size=2000)


def labelled(batch: int) -> dict[str, torch.Tensor]:
    """A call with the token that follows each position as its label, none after the last and in padding."""
    tensors = INPUTS(batch, 24)
    labels = torch.full_like(tensors["input_ids"], -100)
    labels[:, :-1] = tensors["input_ids"][:, 1:]
    return tensors | {"labels": labels.masked_fill(labels == 0, -100)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path, dict[str, Any]]:
    torch.manual_seed(0)
    model = small_models.RotaryGpt(vocab_size=2000, d_model=128).eval()
    torch.nn.init.normal_(model.wte.weight, std=0.05)
    folder = tmp_path_factory.mktemp("variants")
    formats = ["onnx-fp16", "onnx", "onnx-int8"]
    manifest = export_model(model, INPUTS, folder, formats, max_length=24, labelled=[labelled(3), labelled(5)])
    return model, folder, manifest


def entry_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in manifest["formats"] if entry["format"] == name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx-int8", "onnx-fp16"])
def test_a_variant_is_judged_by_the_perplexity_of_the_labelled_rows(made: Any, name: str) -> None:
    model, folder, manifest = made
    entry = entry_of(manifest, name)
    rows = [labelled(3), labelled(5)]
    session = onnxruntime.InferenceSession(folder / entry["file"], providers=["CPUExecutionProvider"])
    answers = [torch.tensor(session.run(None, {"input_ids": row["input_ids"].numpy()})[0]) for row in rows]
    for key, logits in (("model_perplexity", [model(row["input_ids"]) for row in rows]), ("perplexity", answers)):
        flat = torch.cat([part.flatten(0, 1) for part in logits])
        loss = F.cross_entropy(flat, torch.cat([row["labels"].flatten() for row in rows]))
        assert entry[key] == pytest.approx(math.exp(loss.item()), rel=1e-4)
    assert entry["relative_change"] == pytest.approx(entry["perplexity"] / entry["model_perplexity"] - 1)
    assert abs(entry["relative_change"]) <= 0.01


@pytest.mark.slow
def test_int8_takes_a_quarter_and_keeps_a_tied_table_once(made: Any) -> None:
    _, folder, manifest = made
    entry = entry_of(manifest, "onnx-int8")
    assert entry["computes"] == "int8"
    assert entry["relative_size"] == entry["size_bytes"] / entry_of(manifest, "onnx")["size_bytes"] <= 0.27
    model = onnx.load(folder / entry["file"])
    assert [list(item.dims) for item in model.graph.initializer if 2000 in item.dims and item.data_type == 3] == [
        [2000, 128]
    ]
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= {node.op_type for node in model.graph.node}


@pytest.mark.slow
def test_products_in_int8_are_those_of_rounded_weights_and_activations(made: Any, tmp_path: Path) -> None:
    _, folder, _ = made
    write_int8(folder / "model.onnx", tmp_path / "int8.onnx")
    write_half_weights(folder / "model.onnx", tmp_path / "half.onnx")
    ids = INPUTS(2, 9)["input_ids"].numpy()
    paths = (folder / "model.onnx", tmp_path / "int8.onnx", tmp_path / "half.onnx")
    exact, rounded, half = (onnxruntime.InferenceSession(path).run(None, {"input_ids": ids})[0] for path in paths)
    assert 1e-4 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()
    assert 0 < np.abs(half - exact).max() < 1e-2 * np.abs(exact).max()


@pytest.mark.slow
def test_weights_above_the_limit_are_in_a_separate_file(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LARGEST_MESSAGE", 100_000)
    manifest = export_model(made[0], INPUTS, tmp_path, ["onnx", "onnx-fp16", "onnx-int8"], max_length=24)
    for entry in manifest["formats"]:
        assert entry["status"] == "verified", entry
        data = tmp_path / f"{entry['file']}.data"
        assert entry["data"] == {
            "file": data.name,
            "sha256": sha256_of(data),
            "size_bytes": data.stat().st_size,
        }
        assert data.stat().st_size > 5 * entry["size_bytes"] or entry["format"] != "onnx"


@pytest.mark.slow
def test_a_variant_that_predicts_worse_is_not_shipped(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "LARGEST_CHANGE", -1.0)
    manifest = export_model(made[0], INPUTS, tmp_path, ["onnx-int8"], max_length=24, labelled=[labelled(3)])
    (entry,) = manifest["formats"]
    assert (entry["status"], entry["stage"], entry["file"]) == ("failed", "quality", None)
    assert "computing in int8: perplexity changes from" in entry["reason"]
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json"}


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    rows = [labelled(3) | {"labels": torch.zeros(3, 7, dtype=torch.long)}]
    with pytest.raises(DeploymentError, match=r"Labels of shape \(3, 7\) do not fit"):
        export_model(small_models.RotaryGpt(2000), INPUTS, tmp_path, ["onnx-int8"], max_length=24, labelled=rows)


def test_scores_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 6, 11, generator=generator), torch.randint(0, 11, (4, 6), generator=generator)
    labels[1, 2:] = -100
    score = score_logits(logits.numpy(), labels.numpy())
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert score.value == pytest.approx(math.exp(loss.item()), rel=1e-5)
    assert score.correct == ((logits.argmax(-1) == labels) & (labels != -100)).sum().item()


def test_the_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 3, 7, generator=generator), torch.randn(2, 3, 7, generator=generator)
    row = difference(Case(2, 3, {}, one.numpy()), other.numpy())
    expected = F.kl_div(other.log_softmax(-1).flatten(0, 1), one.softmax(-1).flatten(0, 1), reduction="batchmean")
    assert row["divergence"] == pytest.approx(expected.item(), rel=1e-5)


ROW = {"batch": 1, "length": 2, "max_abs_error": 0.1, "problem": "", "relative_error": 0.1, "divergence": 0.001}


@pytest.mark.parametrize(
    ("rows", "score", "reference", "words"),
    [
        ([ROW], None, None, ""),
        ([ROW | {"divergence": 0.02}], None, None, "would rise by 2.02%"),
        ([ROW | {"relative_error": 0.9}], None, None, r"90% of their spread at \(batch, length\) = \(1, 2\)"),
        ([ROW | {"divergence": 0.3}], None, None, "diverge by 0.3 nats"),
        ([ROW], Score(100, 0, 89, "accuracy"), Score(100, 0, 90, "accuracy"), "accuracy changes from 0.9 to 0.89"),
        ([ROW], Score(100, 0, 93, "accuracy"), Score(100, 0, 90, "accuracy"), ""),
        ([ROW], Score(100, 101.1, 0, "perplexity"), Score(100, 100, 0, "perplexity"), r"\+1.11 %"),
        (
            [ROW],
            Score(100, float("nan"), 0, "perplexity"),
            Score(100, 100, 0, "perplexity"),
            "perplexity changes from 2.718",
        ),
        ([ROW], Score(100, 100.5, 0, "perplexity"), Score(100, 100, 0, "perplexity"), ""),
    ],
)
def test_an_inaccurate_variant_is_refused_with_a_reason(
    rows: Any, score: Score | None, reference: Score | None, words: str
) -> None:
    reason = judge_variant(rows, "", score, reference)[0]
    assert re.search(words, reason)
    assert bool(reason) == bool(words)
