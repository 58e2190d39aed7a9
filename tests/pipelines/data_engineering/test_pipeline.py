"""The data engineering pipeline on a catalog in memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipelines.memory import run, sample
from transformer_foundry.pipelines import data_engineering

DATA = {"params:data": {"max_documents": 30}}
KEPT = ("contract", "tokenizer", "token_splits", "data_profile")


@pytest.fixture(scope="module")
def prepared() -> dict[str, Any]:
    catalog = run(data_engineering.create_pipeline(), {"model_export": sample()} | DATA)
    return {name: catalog.load(name) for name in KEPT}


def test_the_contract_of_the_model_decides_on_the_tokens(prepared: dict[str, Any]) -> None:
    assert prepared["contract"]["task"] == prepared["token_splits"].task == "causal_lm"
    assert prepared["tokenizer"].vocab_size <= prepared["contract"]["vocab_size"]


def test_what_is_up_to_date_is_kept(prepared: dict[str, Any]) -> None:
    again = run(data_engineering.create_pipeline(), {"model_export": sample()} | DATA, prepared)
    assert [name for name in KEPT if again.load(name) is not prepared[name]] == []


def test_other_data_are_prepared_again(prepared: dict[str, Any]) -> None:
    other = {"model_export": sample(), "params:data": {"max_documents": 20}}
    again = run(data_engineering.create_pipeline(), other, prepared)
    assert again.load("token_splits").fingerprint != prepared["token_splits"].fingerprint
    assert again.load("contract") is prepared["contract"]
    assert again.load("data_profile")["fingerprint"] == again.load("token_splits").fingerprint
