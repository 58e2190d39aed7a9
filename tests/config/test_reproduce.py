import dataclasses
import json
import re
import shlex

import pytest

from transformer_foundry.config.parameters import SECTIONS, complete_parameters
from transformer_foundry.config.reproduce import PLACES, TAKEN
from transformer_foundry.console.params_text import parse_params
from transformer_foundry.core.base.errors import ParameterError

GPT = "data/01_raw/exports/gpt"
RECORDED = {"model": {"source": GPT}, "data": {"seed": 3}, "training": {"seed": 5, "use_best": True}}


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "first" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"parameters": RECORDED}))
    return path


def test_the_recorded_parameters_take_the_place_of_the_configured_ones(manifest):
    parameters = complete_parameters({"run": {"reproduce": str(manifest)}, "training": {"seed": 1}})
    assert parameters["data"]["seed"] == 3
    assert parameters["training"] == {"seed": 5, "use_best": False}


def test_the_reproduced_run_has_another_name(manifest):
    assert complete_parameters({"run": {"reproduce": str(manifest)}})["run"]["name"] == "first-again"
    named = {"reproduce": str(manifest), "name": "second"}
    assert complete_parameters({"run": named})["run"]["name"] == "second"


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ParameterError, match="is not the manifest of a run"):
        complete_parameters({"run": {"reproduce": str(path)}})


@pytest.fixture
def manifest_of_a_fork(manifest):
    manifest.write_text(json.dumps({"parameters": RECORDED, "sessions": [{"step": 8}, {"step": 12}]}))
    return manifest


def test_a_fork_is_reproduced_only_with_its_first_checkpoint(manifest_of_a_fork):
    with pytest.raises(ParameterError, match=r"started from step 8 of another run(.|\n)*run\.fork_from"):
        complete_parameters({"run": {"reproduce": str(manifest_of_a_fork)}})
    run = {"reproduce": str(manifest_of_a_fork), "fork_from": "other"}
    assert complete_parameters({"run": run})["run"]["fork_from"] == "other"


def test_a_run_that_went_on_from_its_own_checkpoints_is_no_fork(manifest):
    manifest.write_text(json.dumps({"parameters": RECORDED, "sessions": [{"step": 0}, {"step": 12}]}))
    assert complete_parameters({"run": {"reproduce": str(manifest)}})["training"]["seed"] == 5


def everything(mark):
    """Every parameter of every section, with a value that names where it comes from."""
    return {
        name: {field.name: f"{mark} {field.name}" for field in dataclasses.fields(SECTIONS[name])} for name in SECTIONS
    }


def write(path, parameters):
    path.write_text(json.dumps({"parameters": parameters}))
    return path


def test_a_manifest_sets_nothing_but_what_is_listed(manifest):
    own = everything("own") | {"run": {"reproduce": str(manifest), "name": "mine"}, "data_dir": "own"}
    foreign = everything("foreign") | {"data_dir": "foreign"}
    for section, keys in PLACES.items():
        foreign[section] |= {key: own[section][key] for key in keys}
    write(manifest, foreign)
    found = complete_parameters(own)
    taken = {f"{name}.{key}" for name in SECTIONS for key, value in found[name].items() if "foreign" in str(value)}
    assert taken == {f"{name}.{key}" for name, keys in TAKEN.items() for key in keys}
    assert found["data_dir"] == "own"


@pytest.mark.parametrize("section", PLACES)
def test_every_parameter_of_a_manifest_is_taken_or_the_users_own(section):
    fields = {field.name for field in dataclasses.fields(SECTIONS[section])}
    own = {"model": {"trust_code", "sha256", "first_run_seconds"}, "data": set(), "training": {"use_best"}}[section]
    assert fields == {*TAKEN[section], *PLACES[section], *own}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.source", "downloads/evil.zip"), ("model.source", "0" * 32), ("model.revision", "1" * 40),
        ("model.init_from", "evil/weights"), ("data.source", "/home/me/.ssh"), ("data.source", "s3://bucket/a.csv"),
        ("data.revision", "refs/pr/7"), ("data.tokenizer", "evil/tokenizer"), ("model.source", ["a"]),
    ],
)  # fmt: skip
def test_a_place_that_only_the_manifest_names_is_refused(manifest, name, value):
    section, key = name.split(".")
    write(manifest, {**RECORDED, section: {**RECORDED[section], key: value}})
    with pytest.raises(ParameterError, match=rf"{name}(.|\n)*a manifest does not choose(.|\n)*--params"):
        complete_parameters({"run": {"reproduce": str(manifest)}})


@pytest.mark.parametrize(
    "value", ["reviews.csv,model.trust_code=true,model.source=evil", "a'b", 'a"b,c', "1e3", "null", "a: b #c", ["a,b"]]
)
def test_the_command_that_takes_a_place_sets_nothing_else(manifest, value):
    write(manifest, {**RECORDED, "data": {**RECORDED["data"], "source": value}})
    with pytest.raises(ParameterError) as caught:
        complete_parameters({"run": {"reproduce": str(manifest)}, "model": {"source": RECORDED["model"]["source"]}})
    (given,) = re.findall(r"add --params (.*) \(or the path", caught.value.remedy)
    assert parse_params(*shlex.split(given)) == {"data": {"source": value}}


def test_the_approval_of_a_manifest_does_not_count(manifest):
    write(manifest, {**RECORDED, "model": {"source": "a.zip", "trust_code": True, "sha256": "0" * 64}})
    own = {"run": {"reproduce": str(manifest)}, "model": {"source": "a.zip"}}
    assert complete_parameters(own)["model"] == {"source": "a.zip", "init_from": None, "revision": None}


def test_a_file_that_was_moved_is_named_by_the_user(manifest):
    write(manifest, {**RECORDED, "data": {"source": "old/a.csv"}})
    own = {"run": {"reproduce": str(manifest)}, "data": {"source": "new/a.csv"}}
    assert complete_parameters(own)["data"]["source"] == "new/a.csv"


def test_a_password_that_the_manifest_does_not_have_is_the_users(manifest):
    write(manifest, {**RECORDED, "data": {"source": "https://me:[redacted]@host/a.csv"}})
    own = {"run": {"reproduce": str(manifest)}, "data": {"source": "https://me:secret12@host/a.csv"}}
    assert complete_parameters(own)["data"]["source"] == "https://me:secret12@host/a.csv"
