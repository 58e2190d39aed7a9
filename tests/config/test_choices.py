"""Every choice that the documentation names is accepted, in a file and on the command line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from omegaconf import OmegaConf

from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.console.params_text import parse_params
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import parse_options

CHOICES = [
    (section, field.name, choice)
    for section, kind in SECTIONS.items()
    for field in dataclasses.fields(kind)
    for choice in field.metadata.get("choices") or ()
]


@pytest.mark.parametrize(("section", "name", "choice"), CHOICES, ids=[f"{s}.{n}={c}" for s, n, c in CHOICES])
def test_a_choice_is_accepted_as_it_is_written(section: str, name: str, choice: Any) -> None:
    written = [OmegaConf.to_container(OmegaConf.create(f"{section}: {{{name}: {choice}}}\n"))]
    written.append(parse_params(f"{section}.{name}={choice}"))
    for parameters in written:
        assert isinstance(parameters, dict)
        assert accepts(section, name, choice, parameters[section])


def accepts(section: str, name: str, choice: Any, values: dict[str, Any]) -> bool:
    try:
        return bool(getattr(parse_options(SECTIONS[section], values, section), name) == choice)
    except ParameterError as error:  # some choices need other keys too; the value itself is not in question
        return "Expected one of" not in str(error) and f"{section}.{name} is {choice}" in str(error)


@pytest.mark.parametrize("word", ["on", "off"])
def test_the_words_that_yaml_takes_for_booleans_are_among_them(word: str) -> None:
    assert word in {choice for _, _, choice in CHOICES}


def test_a_boolean_is_no_choice_of_others() -> None:
    with pytest.raises(ParameterError, match=r"training\.precision is True"):
        parse_options(SECTIONS["training"], {"precision": True}, "training")
