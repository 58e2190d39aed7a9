"""Errors of a model whose errors are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.core.training.tiny import VOCAB_SIZE, Letters, TinyPair, make_splits
from transformer_foundry.core.evaluation.error_analysis import (
    analyze_errors,
    calibration_figure,
    confusion_figure,
    find_segments,
    predict_examples,
    segment_figure,
)
from transformer_foundry.core.system.precision import choose_precision

CPU = choose_precision("cpu", "fp32")


class Confident(nn.Module):
    """Knows the class of a row from its first id, says blue (2) for green (1), and is sure of it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        said = torch.tensor([0, 2, 2])[input_ids[:, 0] % 3]
        return self.scale * nn.functional.one_hot(said, 3).float()


def report(**changes: Any) -> dict[str, Any]:
    splits = make_splits("sequence_classification", validation=60)
    return analyze_errors(Confident(), splits, Letters(), batch_size=8, precision=CPU, **changes)  # type: ignore[arg-type]


def test_the_confusion_matrix_counts_each_class_predicted_as_each_other() -> None:
    labels = make_splits("sequence_classification", validation=60).validation.labels
    counts = np.bincount(labels, minlength=3)
    assert report()["confusion"]["matrix"] == [[counts[0], 0, 0], [0, 0, counts[1]], [0, 0, counts[2]]]


def test_the_worst_examples_are_the_wrong_ones() -> None:
    worst = report()["worst"]
    assert {(entry["expected"], entry["predicted"]) for entry in worst[:10]} == {("green", "blue")}
    assert [entry["loss"] for entry in worst] == sorted((entry["loss"] for entry in worst), reverse=True)


def test_the_weak_segment_is_the_class_that_is_never_found() -> None:
    weak = [entry["value"] for entry in report()["segments"] if entry["is_weak"]]
    assert weak == ["green"]


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    labels = make_splits("sequence_classification", validation=60).validation.labels
    confidence = np.exp(3) / (np.exp(3) + 2)
    assert report()["calibration"]["expected_error"] == pytest.approx(abs(confidence - np.mean(labels != 1)), abs=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_losses_do_not_depend_on_the_batches(rows: int) -> None:
    torch.manual_seed(0)
    model, splits = TinyPair(), make_splits("seq2seq_lm", validation=11)
    found = predict_examples(model, splits, batch_size=rows, precision=CPU)
    for place, row in enumerate(found.rows):
        target = torch.from_numpy(np.array(splits.validation.target_ids[int(row)], np.int64))[None]
        decoder = torch.cat([torch.tensor([[splits.special.decoder_start]]), target[:, :-1]], 1)
        source = torch.from_numpy(np.array(splits.validation.input_ids[int(row)], np.int64))[None]
        if rows == 1:  # TinyPair sees padding: only rows of their own can be compared with it
            logits = model.eval()(source, None, decoder)
            expected = nn.functional.cross_entropy(logits.reshape(-1, VOCAB_SIZE), target.reshape(-1))
            assert found.losses[place] == pytest.approx(expected.item(), rel=1e-5)
    assert sorted(found.rows) == list(range(11))
    assert len(found.labels) == splits.validation.target_count


def test_chance_alone_is_no_weak_segment() -> None:
    random = np.random.default_rng(0)
    losses = random.exponential(size=400)
    found = find_segments(losses, losses < 1, {"length": random.integers(1, 50, 400)}, {})
    assert len(found) == 4
    assert not [entry for entry in found if entry["is_weak"]]


@pytest.mark.parametrize("task", ["sequence_classification", "seq2seq_lm", "causal_lm"])
def test_report_and_figures_exist_for_every_task(task: str) -> None:
    from tests.core.training.tiny import make_model

    splits = make_splits(task, validation=30)
    found = analyze_errors(make_model(task), splits, Letters(), batch_size=8, precision=CPU)  # type: ignore[arg-type]
    json.dumps(found, allow_nan=False)
    assert (found["examples"] == 0) == (task == "causal_lm")
    drawn = [bool(draw(found).data) for draw in (confusion_figure, calibration_figure)]
    assert drawn == [task == "sequence_classification", task != "causal_lm"]
    assert bool(segment_figure(found).data) == bool(found.get("segments"))


def test_an_empty_split_has_no_errors() -> None:
    splits = make_splits("sequence_classification", validation=0)
    assert analyze_errors(Confident(), splits, Letters(), batch_size=8, precision=CPU)["examples"] == 0  # type: ignore[arg-type]
