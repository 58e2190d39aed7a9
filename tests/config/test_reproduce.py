import json

import pytest

from transformer_foundry.config.parameters import complete_parameters
from transformer_foundry.core.base.errors import ParameterError

RECORDED = {"model": {"source": "gpt"}, "data": {"seed": 3}, "training": {"seed": 5, "use_best": True}}


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "first" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"parameters": RECORDED}))
    return path


def test_the_recorded_parameters_take_the_place_of_the_configured_ones(manifest):
    parameters = complete_parameters({"run": {"reproduce": str(manifest)}, "training": {"seed": 1}})
    assert parameters["model"] == {"source": "gpt"}
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
