"""What a search has found is used only when it is asked for, and only when it is there."""

from __future__ import annotations

import pytest

from transformer_foundry.core.errors import ParameterError, TuningError
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.tuning.best_parameters import use_best_parameters


def test_found_values_replace_the_options_when_asked_for() -> None:
    options = use_best_parameters(TrainingOptions(use_best=True), {"parameters": {"learning_rate": 0.25}})
    assert options == TrainingOptions(use_best=True, learning_rate=0.25)


def test_options_stay_when_nothing_is_asked_for() -> None:
    assert use_best_parameters(TrainingOptions(), {"parameters": {"learning_rate": 0.25}}) == TrainingOptions()


def test_asking_without_a_search_says_how_to_search() -> None:
    with pytest.raises(TuningError, match="--pipelines tuning"):
        use_best_parameters(TrainingOptions(use_best=True), None)


def test_a_damaged_result_is_refused_like_any_bad_parameter() -> None:
    with pytest.raises(ParameterError):
        use_best_parameters(TrainingOptions(use_best=True), {"parameters": {"learning_rate": -1}})
