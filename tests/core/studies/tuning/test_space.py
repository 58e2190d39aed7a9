import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.studies.tuning.default_spaces import DEFAULT_SPACES, training_space
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import Dimension, parse_space
from transformer_foundry.core.training.options import TrainingOptions

DEFAULTS = {"learning_rate": 1e-3, "layers": 4, "schedule": "cosine"}
LEARNING_RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


def parse(**entries):
    return parse_space(entries, DEFAULTS)


def test_a_space_survives_the_way_through_its_yaml_form():
    space = parse(
        learning_rate=LEARNING_RATE,
        layers={"type": "int", "low": 1, "high": 8},
        schedule={"type": "categorical", "choices": ["cosine", "linear"]},
    )
    assert parse_space(space.to_dict(), DEFAULTS) == space


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(ParameterError, match="Did you mean 'learning_rate'"):
        parse(learning_rat=LEARNING_RATE)


def test_an_unknown_key_is_refused_with_the_nearest_name():
    with pytest.raises(ParameterError, match=r"tuning\.space\.learning_rate\.hgh.*Did you mean 'high'"):
        parse(learning_rate={"type": "float", "low": 0.1, "hgh": 1.0})


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"type": "float", "low": 1.0, "high": 0.1}, "low"),
        ({"type": "float", "low": 0.1, "high": 0.1}, "low"),
        ({"type": "float", "low": 0.0, "high": 0.1, "log": True}, "low"),
        ({"type": "float", "low": 0.1}, "high"),
        ({"type": "float", "low": math.nan, "high": 1.0}, "low"),
        ({"type": "float", "low": "0.1", "high": 1.0}, "low"),
        ({"type": "flaot", "low": 0.1, "high": 1.0}, "type"),
        ({"low": 0.1, "high": 1.0}, "type"),
        ({"type": "categorical", "choices": []}, "choices"),
        ({"type": "categorical", "choices": "adamw"}, "choices"),
        ({"type": "categorical", "choices": [0.1], "low": 0.1}, "type"),
        ({"type": "float", "low": 0.1, "high": 1.0, "log": "yes"}, "log"),
    ],
)
def test_a_bad_dimension_is_refused_by_its_key(entry, key):
    with pytest.raises(ParameterError, match=rf"tuning\.space\.learning_rate\.{key} is"):
        parse(learning_rate=entry)


def test_a_whole_number_is_not_searched_as_a_float():
    with pytest.raises(ParameterError, match="layers is a whole number"):
        parse(layers={"type": "float", "low": 1.0, "high": 8.0})


def test_a_text_is_only_searched_among_choices():
    with pytest.raises(ParameterError, match="'cosine' by default"):
        parse(schedule={"type": "float", "low": 0.0, "high": 1.0})


def test_the_default_configuration_is_moved_into_the_space():
    space = parse(learning_rate={"type": "float", "low": 2e-3, "high": 1e-2})
    assert space.first_configuration() == {"learning_rate": 2e-3}


@given(st.floats(allow_nan=False), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_the_nearest_value_lies_in_the_range_and_no_other_is_nearer(value, low, width):
    dimension = Dimension("x", "float", low, low + width)
    nearest = dimension.nearest(value)
    assert low <= nearest <= low + width
    assert abs(nearest - value) <= min(abs(low - value), abs(low + width - value))


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-only", "encoder-decoder"])
def test_each_kind_of_model_has_a_default_space_that_training_accepts(kind):
    assert set(training_space({}, kind=kind).to_dict()) == set(DEFAULT_SPACES[kind])


@given(st.floats(0, 1), st.sampled_from(["float", "log", "int", "choices"]))
def test_a_place_in_a_dimension_becomes_a_value_of_it_and_back(place, which):
    entry = {
        "float": {"type": "float", "low": -2.0, "high": 3.0},
        "log": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "int": {"type": "int", "low": 3, "high": 7},
        "choices": {"type": "categorical", "choices": (16, 8, 32)},
    }[which]
    dimension = Dimension("x", **entry)
    value = dimension.from_unit(place)
    assert value in entry["choices"] if which == "choices" else entry["low"] <= value <= entry["high"]
    spacing = 1 / max(1, (dimension.n_levels or 0) - 1) if dimension.n_levels else 1e-9
    assert abs(dimension.to_unit(value) - place) <= spacing


def test_a_conditional_dimension_exists_only_with_the_values_of_its_condition():
    space = parse(
        schedule={"type": "categorical", "choices": ["cosine", "linear"]},
        layers={"type": "int", "low": 1, "high": 8, "when": {"schedule": ["linear"]}},
    )
    assert space.complete(lambda dimension: dimension.extremes[-1]) == {"schedule": "linear", "layers": 8}
    assert space.first_configuration() == {"schedule": "cosine"}
    assert parse_space(space.to_dict(), DEFAULTS) == space


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"schedul": ["linear"]}, "Did you mean 'schedule'"),
        ({"schedule": ["lineer"]}, "Expected values of tuning.space.schedule"),
        ({"learning_rate": [0.001]}, "learning_rate is a float"),
        (["schedule"], "Expected a mapping"),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(when, said):
    with pytest.raises(ParameterError, match=said):
        parse(
            schedule={"type": "categorical", "choices": ["cosine", "linear"]},
            learning_rate=LEARNING_RATE,
            layers={"type": "int", "low": 1, "high": 8, "when": when},
        )


def test_values_of_the_models_configuration_can_be_searched():
    entry = {"model.num_layers": {"type": "int", "low": 1, "high": 4}}
    space = training_space(entry, config={"num_layers": 2, "d_model": 8})
    assert space.first_configuration() == {"model.num_layers": 2}
    with pytest.raises(ParameterError, match=r"config\.json has no num_layer.*Did you mean 'num_layers'"):
        training_space({"model.num_layer": entry["model.num_layers"]}, config={"num_layers": 2})


def test_the_size_of_the_vocabulary_cannot_be_searched():
    with pytest.raises(ParameterError, match="the prepared tokens depend on it"):
        TuningOptions(space={"model.vocab_size": {"type": "int", "low": 10, "high": 20}})


def test_choices_that_repeat_are_refused():
    with pytest.raises(ParameterError, match="each value once"):
        parse(layers={"type": "categorical", "choices": [2, 2]})


def test_a_value_that_training_refuses_is_refused_with_its_place_in_the_space():
    with pytest.raises(ParameterError, match=r"tuning\.space\.warmup_ratio reaches 1\.5"):
        TuningOptions(space={"warmup_ratio": {"type": "float", "low": 0.0, "high": 1.5}})


def test_parameters_that_only_say_how_long_to_train_cannot_be_searched():
    with pytest.raises(ParameterError, match="is not a parameter that can be searched"):
        TuningOptions(space={"max_steps": {"type": "int", "low": 10, "high": 20}})


def test_the_longest_warm_up_comes_from_the_space_or_the_default():
    assert training_space({}).largest("warmup_ratio", 0.0) == 0.3
    fixed = training_space({"learning_rate": LEARNING_RATE})
    assert fixed.largest("warmup_ratio", 0.0) == TrainingOptions().warmup_ratio
