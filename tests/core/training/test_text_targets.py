"""From a file to a package: numbers and several labels a text, learned from one text or from a pair."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.publishing.packaging import REPORT, RUN
from tests.core.publishing.serving import module_of
from transformer_foundry.core.base.errors import ParameterError, TrainingError
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, profile_splits, read_corpus
from transformer_foundry.core.evaluation.assess import assess
from transformer_foundry.core.evaluation.error_analysis import analyze_errors, confusion_figure
from transformer_foundry.core.evaluation.options import SampleOptions
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.core.publishing import DeploymentOptions, build_package
from transformer_foundry.core.studies.comparison.candidates import Candidate
from transformer_foundry.core.system.precision import choose_precision
from transformer_foundry.core.training import Checkpoint, TrainingOptions, fit

WORDS = ["amber", "birch", "cedar", "daisy", "ember", "fern", "grove", "hazel", "iris", "jade", "kelp", "lotus"]
CPU = choose_precision("cpu", "fp32")
MODEL = Path(__file__).parents[1] / "checks" / "zoo" / "classifier.py"


def write_export(folder: Path, outputs: int, **changes: str) -> Path:
    """A small BERT with a number of outputs; ``changes`` replaces parts of its code."""
    folder.mkdir()
    code = MODEL.read_text()
    for old, new in changes.items():
        code = code.replace(old, new)
    (folder / "model.py").write_text(code)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64}
    config = {"vocab_size": 200, "max_position_embeddings": 48, "hidden_dropout_prob": 0.0, **sizes}
    (folder / "config.json").write_text(json.dumps({"model_name": "BertForTopic", "num_labels": outputs, **config}))
    return folder


def write_numbers(path: Path, *, pairs: bool = False) -> Path:
    """Each word is worth a number; the target is 500 + 40 x their sum, or x the difference of two texts, and noise."""
    drawn = random.Random(0)
    worth = {word: drawn.gauss(0, 1) for word in WORDS}
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sentence1", "sentence2", "score"] if pairs else ["text", "score"])
        for _ in range(900):
            texts = [drawn.choices(WORDS, k=5) for _ in range(1 + pairs)]
            sums = [sum(worth[word] for word in text) for text in texts]
            number = 500 + 40 * (sums[0] - (sums[1] if pairs else 0)) + drawn.gauss(0, 5)
            table.writerow([*map(" ".join, texts), round(number, 2)])
    return path


def write_labels(path: Path) -> Path:
    """A text has the label of each of four words in it."""
    drawn = random.Random(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", *WORDS[:4]])
        for _ in range(900):
            text = drawn.choices(WORDS, k=5)
            table.writerow([" ".join(text), *(int(word in text) for word in WORDS[:4])])
    return path


class Story:
    """A model trained on a file, with its data."""

    def __init__(self, folder: Path, data: Path, outputs: int, steps: int = 150, **changes: str) -> None:
        self.export = read_export(write_export(folder / "export", outputs, **changes))
        self.adapter = load_model(self.export)
        contract = self.adapter.contract
        options = DataOptions(source=str(data), validation_share=0.15, tokenizer="word")
        corpus = read_corpus(options, contract.task, contract.num_labels)
        self.tokenizer = fit_tokenizer(corpus, contract, options)
        self.splits = prepare_splits(corpus, self.tokenizer, contract, options, folder / "tokens")
        settings = TrainingOptions(max_steps=steps, eval_steps=None, learning_rate=3e-3, device="cpu", num_samples=0)
        saved = [event for event in fit(self.adapter, self.splits, settings) if isinstance(event, Checkpoint)]
        self.state = saved[-1].state

    def assess(self) -> tuple[dict[str, Any], dict[str, Any]]:
        samples = SampleOptions(2, 4, 1.0, None, None)
        return assess(
            self.adapter, self.splits, self.tokenizer,
            step=1, precision=CPU, batch_size=32, samples=samples, seed=0,
        )  # fmt: skip

    def errors(self) -> dict[str, Any]:
        return analyze_errors(self.adapter, self.splits, self.tokenizer, batch_size=32, precision=CPU)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("numbers")
    return Story(folder, write_numbers(folder / "a.csv"), 1)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("labels")
    return Story(folder, write_labels(folder / "a.csv"), 4)


def test_numbers_far_from_zero_are_learned_better_than_their_mean(numbers: Story) -> None:
    evaluation, samples = numbers.assess()
    assert numbers.splits.task == "regression"
    assert [item["is_beaten"] for item in evaluation["comparisons"]] == [True, True, True]
    found = evaluation["validation"]
    assert found["rmse"] < 0.5 * evaluation["baselines"]["mean_rmse"]
    assert found["pearson"] > 0.9
    assert found["spearman"] > 0.9
    assert "(true: " in samples["samples"][0]


def test_the_errors_of_numbers_are_in_their_units(numbers: Story) -> None:
    report, evaluation = numbers.errors(), numbers.assess()[0]
    for name in ("rmse", "mae", "pearson", "spearman"):
        assert report["numbers"][name] == pytest.approx(evaluation["validation"][name], abs=1e-6)
    assert sum(quarter["examples"] for quarter in report["numbers"]["quarters"]) == report["examples"]
    errors = [round(abs(float(item["expected"]) - float(item["predicted"])), 2) for item in report["worst"]]
    assert errors == sorted(errors, reverse=True)
    assert report["worst"][0]["confidence"] is None
    assert len(confusion_figure(report).data) == 2


def test_several_labels_are_learned_better_than_their_frequencies(labels: Story) -> None:
    evaluation, samples = labels.assess()
    assert labels.splits.task == "multi_label_classification"
    beaten = {item["baseline"]: item["is_beaten"] for item in evaluation["comparisons"]}
    assert beaten["prior_loss"]
    assert beaten["every_label_micro_f1"]
    assert evaluation["validation"]["micro_f1"] > 0.9
    assert evaluation["validation"]["macro_f1"] > 0.9
    assert "(true: " in samples["samples"][0]


def test_the_errors_of_several_labels_are_told_by_label(labels: Story) -> None:
    report, evaluation = labels.errors(), labels.assess()[0]
    assert [item["label"] for item in report["labels"]] == WORDS[:4]
    assert np.mean([item["f1"] for item in report["labels"]]) == pytest.approx(evaluation["validation"]["macro_f1"])
    assert report["calibration"]["expected_error"] < 0.2
    assert "confusion" not in report
    assert len(confusion_figure(report).data) == 3


@pytest.mark.slow
def test_a_sigmoid_at_the_end_of_the_model_trains_as_well(tmp_path: Path) -> None:
    head = "self.classifier(self.dropout(pooled))"
    story = Story(tmp_path, write_labels(tmp_path / "a.csv"), 4, **{head: f"{head}.sigmoid()"})
    assert story.adapter.contract.output_activation == "sigmoid"
    assert story.assess()[0]["validation"]["micro_f1"] > 0.9


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("pairs")
    return Story(folder, write_numbers(folder / "a.csv", pairs=True), 1, steps=300)


@pytest.mark.slow
def test_the_difference_of_a_pair_is_learned(pairs: Story) -> None:
    evaluation, _ = pairs.assess()
    assert pairs.splits.texts["columns"] == "text from sentence1, second text from sentence2, number from score"
    assert all(item["is_beaten"] for item in evaluation["comparisons"])


def test_numbers_need_one_output_and_no_smoothing(numbers: Story, tmp_path: Path) -> None:
    other = load_model(read_export(write_export(tmp_path / "export", 3)))
    with pytest.raises(TrainingError, match="a number for each text, but the model has 3 outputs"):
        next(fit(other, numbers.splits, TrainingOptions(max_steps=1, device="cpu")))
    with pytest.raises(ParameterError, match=r"label_smoothing is 0\.1"):
        next(fit(numbers.adapter, numbers.splits, TrainingOptions(max_steps=1, label_smoothing=0.1, device="cpu")))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["numbers", "labels"])
def test_reference_architectures_learn_the_same(task: str, request: pytest.FixtureRequest) -> None:
    story = request.getfixturevalue(task)
    model = Candidate("bert", "reference", reference="bert", parameter_count=20_000, layers=1).build(story.splits, 0)
    events = list(fit(model, story.splits, TrainingOptions(max_steps=2, eval_steps=None, device="cpu", num_samples=0)))
    assert isinstance(events[-1], Checkpoint)


def package_of(story: Story, folder: Path, formats: list[str]) -> tuple[Path, dict[str, Any]]:
    package = build_package(
        load_model(story.export),
        story.export,
        story.tokenizer,
        training_state=story.state,
        evaluation=story.assess()[0],
        data_profile=profile_splits(story.splits, story.tokenizer),
        validation_report=REPORT,
        run_manifest=RUN,
        options=DeploymentOptions(formats=formats, page=False),
        splits=story.splits,
    )
    assert {entry["status"] for entry in package.manifest["formats"]} == {"verified"}
    return Path(shutil.move(package.folder, folder / "package")), package.manifest


@pytest.mark.slow
def test_a_package_answers_with_numbers_in_their_units(numbers: Story, tmp_path: Path) -> None:
    folder, manifest = package_of(numbers, tmp_path, ["pytorch", "onnx", "transformers"])
    text = "amber birch cedar cedar fern"
    ids = torch.tensor([numbers.tokenizer.encode(text)])
    mean, std = numbers.splits.target_scale or (0.0, 0.0)
    with torch.no_grad():
        expected = float(numbers.adapter.eval()(ids, torch.ones_like(ids))) * std + mean
    (answer,) = module_of(folder, "inference").Model(folder, file="model.onnx").predict([text])
    assert answer == [{"value": pytest.approx(expected, rel=1e-4)}]
    assert 300 < expected < 700
    assert manifest["model"]["task"] == "regression"
    assert json.loads((folder / "config.json").read_text())["problem_type"] == "regression"
    card = (folder / "README.md").read_text()
    assert "that gives a text a number" in card
    assert "| loss (variances of the training numbers) |" in card


@pytest.mark.slow
def test_a_package_reads_pairs_as_training_did(pairs: Story, tmp_path: Path) -> None:
    folder, manifest = package_of(pairs, tmp_path, ["pytorch", "onnx"])
    programs = module_of(folder, "inference")
    model, row = programs.Model(folder), int(np.argmax(pairs.splits.train.input_ids.lengths()))
    texts = ("amber birch cedar cedar fern", "kelp " * 60)
    assert len(model.text.encode(*texts)) == model.max_length
    written = pairs.splits.train.input_ids[row].tolist()
    sides = [pairs.tokenizer.decode(part) for part in np.split(written, [written.index(pairs.tokenizer.eos_token_id)])]
    assert model.text.encode(*sides) == written
    given = ("amber birch amber fern iris", "lotus kelp jade jade iris")
    values = [answer[0]["value"] for answer in model.predict([given, given[::-1], None])]
    ids, (mean, std) = torch.tensor([model.text.encode(*given)]), pairs.splits.target_scale or (0.0, 0.0)
    with torch.no_grad():
        expected = float(pairs.adapter.eval()(ids, torch.ones_like(ids))) * std + mean
    assert values[0] == pytest.approx(expected, rel=1e-4)
    assert values[1] != pytest.approx(expected, rel=1e-2)
    with pytest.raises(programs.InputError, match="two texts at a time"):
        model.predict(["amber"])
    prompt = manifest["prompt"]
    assert prompt["input_ids"] == model.text.encode(prompt["text"], prompt["pair"])
    done = subprocess.run(
        [sys.executable, "load_example.py", *given],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout.split("answer: ")[1]) == pytest.approx(values[0], rel=1e-3)


@pytest.mark.slow
def test_a_package_answers_with_labels_that_do_not_exclude_each_other(labels: Story, tmp_path: Path) -> None:
    folder, manifest = package_of(labels, tmp_path, ["pytorch", "onnx", "onnx-int8"])
    model = module_of(folder, "inference").Model(folder, file="model.onnx")
    found = {item["label"]: item["score"] for item in model.predict(["amber cedar fern grove kelp"])[0]}
    assert {label for label, score in found.items() if score > 0.5} == {"amber", "cedar"}
    assert manifest["label_names"] == WORDS[:4]
    int8 = next(entry for entry in manifest["formats"] if entry["format"] == "onnx-int8")
    assert int8["judged_by"] == "accuracy on rows of the test split"
