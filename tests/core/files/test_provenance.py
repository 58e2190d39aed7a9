"""What an artefact was made from: kept, read, compared, said in words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from transformer_foundry.core.base.secrets import redact_texts
from transformer_foundry.core.files.provenance import (
    difference_text,
    digest_of,
    has_changed,
    is_made_from,
    model_digest,
    origin_differences,
    origin_of,
    run_origin,
    with_origin,
)
from transformer_foundry.core.models.source.read import read_export

ORIGIN = {"model": "m1", "data": "d1", "weights": "w1", "step": 400}


def test_an_artefact_keeps_its_origin_and_its_other_keys() -> None:
    artefact = with_origin({"step": 400}, ORIGIN)

    assert artefact["step"] == 400
    assert origin_of(artefact) == ORIGIN


RESULT = {"validation": {"loss": 4.636, "none": float("nan")}, "shape": (2, 3), "texts": ["A\u2028", 1e-07], 7: None}


def test_a_result_comes_back_unchanged_through_json_and_yaml_and_may_get_further_keys() -> None:
    kept = with_origin(RESULT, ORIGIN)
    for found in (kept, json.loads(json.dumps(kept)), yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(kept))))):
        assert not has_changed(found)
        assert is_made_from(found | {"mine": 1}, ORIGIN)


@pytest.mark.parametrize("change", [{"validation": {"loss": 2.636}}, {"shape": [2]}, {"content_digest": {}}])
def test_a_result_whose_content_has_changed_is_made_from_nothing(change: dict[str, object]) -> None:
    changed = with_origin(RESULT, ORIGIN) | change

    assert has_changed(changed)
    assert not is_made_from(changed, ORIGIN)
    assert not is_made_from(changed, {})
    assert difference_text(ORIGIN, origin_of(changed)) == "content that has changed since it was written"


def test_a_result_that_has_lost_a_key_has_changed_and_one_without_a_digest_has_not() -> None:
    kept = with_origin({"loss": 4.6, "step": 3}, ORIGIN)

    assert has_changed({name: kept[name] for name in kept if name != "loss"})
    assert is_made_from({"loss": 4.6, "made_from": ORIGIN}, ORIGIN)


def test_the_digest_of_a_result_is_that_of_its_file_which_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "a-secret-of-the-user")

    assert not has_changed(redact_texts(with_origin({"text": "say a-secret-of-the-user"}, ORIGIN)))


@pytest.mark.parametrize("artefact", [{}, None, [], {"made_from": "x"}, {"made_from": None}, {"made_from": {"a": []}}])
def test_what_names_no_origin_is_made_from_nothing(artefact: object) -> None:
    assert origin_of(artefact) == {}
    assert not is_made_from(artefact, ORIGIN)
    assert not is_made_from(artefact, {})


@pytest.mark.parametrize("name", ORIGIN)
def test_one_value_that_differs_or_is_missing_is_found(name: str) -> None:
    missing = {key: value for key, value in ORIGIN.items() if key != name}

    assert origin_differences(ORIGIN, {**ORIGIN, name: "other"}) == [name]
    assert origin_differences(ORIGIN, missing) == [name]
    assert not is_made_from(with_origin({}, missing), ORIGIN)


def test_more_than_is_expected_and_names_that_do_not_matter_are_no_difference() -> None:
    found = {**ORIGIN, "code": "9", "data": "d2"}

    assert origin_differences({"model": "m1"}, found) == []
    assert origin_differences(ORIGIN, found, names=("model", "step")) == []
    assert is_made_from(with_origin({}, found), ORIGIN, names=("model", "step"))


def test_several_differences_are_said_in_one_phrase() -> None:
    found = {"model": "m2", "data": "d2", "weights": "w2", "step": 200}

    assert difference_text(ORIGIN, found) == "step 200 instead of 400, another model and other data"
    assert difference_text(ORIGIN, {"model": "m1"}) == "unknown data, unknown weights and unknown step"
    assert difference_text(ORIGIN, ORIGIN) == ""


def test_the_digest_of_a_model_is_the_identity_of_its_export(tmp_path: Path) -> None:
    files = {"model.py": b"class Model: ...\n", "config.json": b"{}"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, config = (hashlib.sha256(content).hexdigest() for content in files.values())

    assert model_digest(code, config) == read_export(tmp_path).identity
    assert run_origin({"model_code": code, "config": config}) == {"model": read_export(tmp_path).identity}


def test_settings_have_one_digest_whatever_their_order() -> None:
    assert digest_of({"a": 1, "b": None}) == digest_of({"b": None, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
