import json

import pytest

from transformer_foundry.core.errors import ParameterError
from transformer_foundry.parameters import complete_parameters

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


def test_the_run_has_a_name_of_its_own(manifest):
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
