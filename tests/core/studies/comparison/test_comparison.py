"""Comparisons: what is compared, what is refused, what is not repeated, what the numbers say."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.core.export import small_models
from tests.core.publishing.packaging import write_export
from tests.core.training.tiny import VOCAB_SIZE, make_options, make_splits
from transformer_foundry.core.base.errors import DataError, ModelError, ParameterError
from transformer_foundry.core.models import ModelSource, adapt
from transformer_foundry.core.studies import comparison
from transformer_foundry.core.studies.comparison import BenchmarkOptions, Candidate, CandidateResult
from transformer_foundry.core.studies.comparison.confidence import is_difference, student_t
from transformer_foundry.core.studies.comparison.reference_models import REFERENCES, build_reference
from transformer_foundry.datasets import ComparisonDataset
from transformer_foundry.pipelines.comparison.nodes import draw_comparison


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("exports") / "drawn"
    return write_export(folder, small_models.RotaryGpt, vocab_size=96)


def candidates(drawing: ModelSource, *names: str) -> list[comparison.Candidate]:
    models = [str(drawing.folder) if name == "drawn" else name for name in names]
    return comparison.find_candidates(models, make_splits(), drawing)


def run(found: list[comparison.Candidate], *, finished: Any = (), **options: Any) -> Iterator[CandidateResult]:
    benchmark = BenchmarkOptions(models=["a", "b"], **{"seeds": 1, **options})
    return comparison.compare_models(found, make_splits(), make_options(max_steps=2), benchmark, finished)


def result(name: str, seed: int, loss: float, **changes: Any) -> CandidateResult:
    values: dict[str, Any] = {
        "key": f"{name}{seed}", "name": name, "seed": seed, "parameter_count": 10, "steps": 2, "tokens": 9,
        "flops": 1.0, "loss": loss, "bits_per_byte": None, "accuracy": 0.5, "split": "test",
        "tokens_per_second": 5.0, "seconds": 1.0, "memory_gb": None,
    }  # fmt: skip
    return CandidateResult(**{**values, **changes})


def test_drawings_and_references_train_on_the_same_tokens(drawing: ModelSource) -> None:
    results = list(run(candidates(drawing, "drawn", "gpt2")))
    assert [found.name for found in results] == ["drawn", "gpt2"]
    assert results[0].tokens == results[1].tokens > 0
    assert all(math.isfinite(found.loss) and found.bits_per_byte for found in results)


def test_finished_trainings_are_not_repeated(drawing: ModelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    found = candidates(drawing, "drawn", "drawn")
    first = next(run(found))
    built: list[str] = []
    build = comparison.Candidate.build
    monkeypatch.setattr(
        comparison.Candidate, "build", lambda self, *rest, **more: built.append(self.name) or build(self, *rest, **more)
    )
    results = list(run(found, finished=[first]))
    assert results[0] == first
    assert built == ["drawn (2)"]


def test_each_training_is_named_and_after_the_first_of_each_model_the_rest_is_forecast(
    drawing: ModelSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "transformer_foundry.core.studies.comparison")
    results = list(run(candidates(drawing, "drawn", "gpt2"), seeds=3))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "Training drawn, seed 1 of 3 ..."
    assert re.fullmatch(r"Forecast: \S+ (s|min|h) more for 4 trainings\.", lines[4])
    assert sum(line.startswith("Forecast") for line in lines) == 1
    caplog.clear()
    list(run(candidates(drawing, "drawn", "gpt2"), seeds=3, finished=results[:5]))
    assert len(caplog.records) == 2


def test_other_options_are_another_comparison(drawing: ModelSource) -> None:
    found = candidates(drawing, "drawn")
    assert next(run(found)).key != next(run(found, tokens=100)).key


def test_a_budget_of_tokens_is_kept(drawing: ModelSource) -> None:
    found = next(run(candidates(drawing, "drawn"), tokens=500))
    assert found.tokens == pytest.approx(500, rel=0.1)


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in REFERENCES.items() for name in names])
def test_a_reference_has_about_the_parameters_that_are_asked_for(task: str, name: str) -> None:
    import torch

    splits = dataclasses.replace(make_splits(task if task != "token_classification" else "sequence_classification"),
                                 task=task)  # fmt: skip
    with torch.device("meta"):
        model = build_reference(name, splits, parameter_count=400_000, layers=2, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(400_000, rel=0.25)


@pytest.mark.parametrize(("task", "name"), [("masked_lm", "bert"), ("seq2seq_lm", "t5"),
                                            ("seq2seq_lm", "bart"), ("sequence_classification", "electra"),
                                            ("causal_lm", "llama")])  # fmt: skip
def test_a_reference_can_be_called_like_any_model(task: str, name: str) -> None:
    splits = make_splits(task)
    model = build_reference(name, splits, parameter_count=60_000, layers=1, seed=0)
    contract = adapt(model, model.config.to_dict(), task=task).contract  # type: ignore[operator, union-attr]
    assert (contract.task, contract.vocab_size) == (task, VOCAB_SIZE)


@pytest.mark.parametrize(
    ("name", "words"),
    [("gtp2", "Did you mean 'gpt2'"), ("GPT-2", "Did you mean 'gpt2'"),
     ("bert", "bert is a reference architecture for masked_lm, "),
     ("no/where", "no folder")],
)  # fmt: skip
def test_an_unknown_model_is_refused_with_the_nearest_name(drawing: ModelSource, name: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        candidates(drawing, "drawn", name)
    assert "gpt2, gpt_neox, llama" in caught.value.expected


def test_the_nearest_folder_is_named_for_a_drawing_that_is_misspelled(drawing: ModelSource) -> None:
    with pytest.raises(ParameterError, match=f"Did you mean '{drawing.folder}'"):
        candidates(drawing, "drawn", str(drawing.folder).replace("drawn", "drwan"))


def test_a_broken_drawing_is_named(drawing: ModelSource, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.py").write_text("import torch\nclass Model(torch.nn.Module)\n    pass\n")
    with pytest.raises(ModelError, match=f"benchmark.models, {tmp_path}: "):
        candidates(drawing, "drawn", str(tmp_path))


def test_a_reference_and_an_export_of_its_name_get_different_names(drawing: ModelSource, tmp_path: Path) -> None:
    named = shutil.copytree(drawing.folder, tmp_path / "gpt2")
    found = comparison.find_candidates([str(named), "gpt2", str(named), "llama"], make_splits(), drawing)
    assert [candidate.name for candidate in found] == ["gpt2", "gpt2 (reference)", "gpt2 (2)", "llama"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"vocab_size": 200}, "have 200 token ids, but the model's vocabulary has 96"),
     ({"max_length": 200}, "rows of up to 200 tokens, but the model takes at most "),
     ({"task": "masked_lm"}, "prepared for masked_lm, but the task of the model is causal_lm")],
)  # fmt: skip
def test_models_that_cannot_share_tokens_are_refused_with_what_to_do(
    drawing: ModelSource, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        comparison.find_candidates([str(drawing.folder)], dataclasses.replace(make_splits(), **changes), drawing)
    assert f"data_engineering with model.source={drawing.folder}" in caught.value.remedy


@pytest.mark.parametrize("values", [{"models": ["gpt2"]}, {"tokens": 1.0, "minutes": 1.0}, {"seeds": 0}])
def test_impossible_benchmarks_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        BenchmarkOptions(**values)


def test_a_value_that_is_not_a_list_is_refused_with_the_way_to_write_one() -> None:
    with pytest.raises(ParameterError) as caught:
        BenchmarkOptions(models="gpt2")  # type: ignore[arg-type]
    assert "--params benchmark.models=[A,B]" in caught.value.remedy


def test_two_draws_of_one_distribution_are_rarely_called_different() -> None:
    random = np.random.default_rng(0)
    alarms = [is_difference(random.normal(0, 1, 3).tolist()) for _ in range(2000)]
    assert 0.002 < np.mean([bool(alarm) for alarm in alarms]) < 0.02


@pytest.mark.parametrize(
    ("degrees", "confidence", "t"),
    [(1, 0.5, 1.0), (1, 0.99, 63.657), (2, 0.9, 2.920), (4, 0.95, 2.776), (9, 0.98, 2.821), (30, 0.999, 3.646)],
)
def test_an_interval_has_the_width_of_the_printed_tables(degrees: int, confidence: float, t: float) -> None:
    assert student_t(degrees, confidence) == pytest.approx(t, abs=5e-4)


def test_a_budget_of_tokens_counts_what_encoder_and_decoder_see() -> None:
    splits, training = make_splits("seq2seq_lm"), make_options(max_steps=2)
    model = Candidate("t5", "t5", reference="t5", parameter_count=20_000, layers=1)
    options = BenchmarkOptions(models=["a", "b"], seeds=1, tokens=3000)
    assert next(comparison.compare_models([model], splits, training, options)).tokens == pytest.approx(3000, rel=0.1)


def test_a_difference_is_found_by_pairs_where_seeds_differ_more_than_models() -> None:
    results = [result("a", seed, 3.0 + seed) for seed in range(4)]
    results += [result("b", seed, 3.1 + seed + 0.001 * (seed % 2)) for seed in range(4)]
    results += [result("c", seed, 3.0 + seed + 0.1 * (-1) ** seed) for seed in range(4)]
    rows = {row.model: row for row in comparison.summarize(results)}
    assert {name: row.verdict for name, row in rows.items()} == {"a": "", "b": "worse", "c": "no difference"}
    assert rows["b"].difference == pytest.approx(0.1005)


@pytest.mark.parametrize("spread", [0.001, 0.005, 0.01, 0.02, 0.1])
def test_the_interval_of_a_difference_contains_zero_if_none_is_found(spread: float) -> None:
    results = [result("a", seed, 3.0) for seed in range(3)]
    results += [result("b", seed, 3.03 + spread * (seed - 1)) for seed in range(3)]
    row = comparison.summarize(results)[1]
    assert (row.verdict == "worse") == (row.difference_interval < row.difference)


def test_the_figure_names_every_model_even_one_that_failed() -> None:
    results = [result("a", 0, 3.0), result("a_drawing_with_a_long_name", 0, math.nan, problem="It diverged.")]
    figure = comparison.comparison_figure(comparison.summarize(results))
    assert [note.text for note in figure.layout.annotations] == ["a", "a_drawing_…long_name: failed"]
    assert list(figure.data[1].cells.values[0]) == ["a<br>10, 2", "a_drawing_…long_name<br>10, 2"]


def test_one_seed_shows_no_difference() -> None:
    rows = comparison.summarize([result("a", 0, 3.0), result("b", 0, 2.0)])
    assert rows[1].verdict == "not known: one seed"


def test_a_training_that_failed_is_reported_and_breaks_nothing() -> None:
    results = [result("a", 0, 3.0), result("b", 0, math.nan, problem="It diverged."), result("a", 1, 3.0)]
    report, table, figure = draw_comparison(results, SimpleNamespace(fingerprint="d1"), None)
    assert report["made_from"]["data"] == "d1"
    assert (report["models"][1]["verdict"], report["models"][1]["problem"]) == ("failed", "It diverged.")
    assert len(table) == 2
    assert "nan" not in json.dumps(report, allow_nan=False)
    assert figure.to_json()
    assert [line.split() for line in comparison.comparison_text(comparison.summarize(results)).splitlines()[1:]] == [
        ["a", "10", "2", "3.0000", "±", "0.0000", "5"], ["b", "10", "2", "failed", "5"], ["b:", "It", "diverged."],
    ]  # fmt: skip


def test_results_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "models" / "comparison.jsonl"
    ComparisonDataset(filepath=str(path)).save(result("a", 0, 3.0))
    path.write_bytes(path.read_bytes() + b'{"key": "b')
    dataset = ComparisonDataset(filepath=str(path))
    assert dataset.load() == [result("a", 0, 3.0)]
    dataset.save(result("a", 0, 3.0))
    dataset.save(result("b", 0, 2.0))
    assert ComparisonDataset(filepath=str(path)).load() == [result("a", 0, 3.0), result("b", 0, 2.0)]


def test_the_export_of_these_tests_contains_its_class() -> None:
    """The tests above depend on it."""
    assert "class RotaryGpt" in inspect.getsource(small_models)
