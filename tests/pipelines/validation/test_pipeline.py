"""The validation pipeline on a catalog in memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipelines.memory import run, sample
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.pipelines import validation


@pytest.fixture(scope="module")
def checked() -> dict[str, Any]:
    catalog = run(validation.create_pipeline(), {"model_export": sample()})
    return {name: catalog.load(name) for name in ("validation_report", "validation_figure", "model_approval")}


def test_a_sound_model_is_approved(checked: dict[str, Any]) -> None:
    assert checked["validation_report"]["status"] == "pass"
    assert checked["model_approval"]["model"]["identity"] == sample().identity


def test_an_earlier_report_of_the_same_model_is_kept(checked: dict[str, Any]) -> None:
    again = run(validation.create_pipeline(), {"model_export": sample()}, checked)
    assert again.load("validation_report") is checked["validation_report"]


def test_a_report_of_other_checks_is_made_again(checked: dict[str, Any]) -> None:
    other = checked["validation_report"] | {"made_from": {"model": "another"}}
    earlier = {"validation_report": other, "validation_figure": b"png"}
    again = run(validation.create_pipeline(), {"model_export": sample()}, earlier)
    assert again.load("validation_report")["made_from"] == checked["validation_report"]["made_from"]


def test_a_wrong_parameter_is_named() -> None:
    with pytest.raises(ParameterError, match=r"validation\.tire"):
        run(validation.create_pipeline(), {"model_export": sample(), "params:validation": {"tire": 1}})
