"""What a search has found is used only when it is asked for, and only when it is there."""

from __future__ import annotations

import pytest

from transformer_foundry.core.base.errors import ParameterError, TuningError
from transformer_foundry.core.files.provenance import with_origin
from transformer_foundry.core.studies.tuning.results.best_parameters import use_best_parameters
from transformer_foundry.core.training.options import TrainingOptions

FOUND = {"parameters": {"learning_rate": 0.25}, "loss": 2.0, "model": "m", "data": "d"}


@pytest.mark.parametrize(("model", "data", "said"), [("x", "d", "another model"), ("m", "x", "other data")])
def test_best_parameters_of_another_model_or_other_data_is_refused(model: str, data: str, said: str) -> None:
    with pytest.raises(TuningError, match=said):
        use_best_parameters(TrainingOptions(use_best=True), FOUND, model, data)


def test_best_parameters_replace_the_options_if_use_best_is_true() -> None:
    options = use_best_parameters(TrainingOptions(use_best=True), FOUND, "m", "d")
    assert options == TrainingOptions(use_best=True, learning_rate=0.25)


def test_options_stay_if_use_best_is_false() -> None:
    assert use_best_parameters(TrainingOptions(), FOUND, "m", "d") == TrainingOptions()


def test_use_best_without_a_search_says_how_to_search() -> None:
    with pytest.raises(TuningError, match="--pipelines tuning"):
        use_best_parameters(TrainingOptions(use_best=True), None, "m", "d")


def test_a_damaged_result_is_refused_like_any_bad_parameter() -> None:
    with pytest.raises(ParameterError):
        use_best_parameters(TrainingOptions(use_best=True), FOUND | {"parameters": {"learning_rate": -1}}, "m", "d")


def test_a_result_that_sets_anything_but_training_parameters_is_refused() -> None:
    with pytest.raises(TuningError, match="was not written by a search"):
        use_best_parameters(TrainingOptions(use_best=True), FOUND | {"parameters": {"trust_code": True}}, "m", "d")


def test_a_result_that_was_edited_is_refused() -> None:
    edited = with_origin(FOUND, {"model": "m"}) | {"parameters": {"learning_rate": 0.5}}
    with pytest.raises(TuningError, match="has changed since the search wrote it"):
        use_best_parameters(TrainingOptions(use_best=True), edited, "m", "d")
