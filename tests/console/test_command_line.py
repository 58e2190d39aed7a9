import shlex

import pytest
from kedro.framework.cli.utils import _split_params

from transformer_foundry.console.command_line import run_command


def test_no_pipeline_and_no_parameter_is_plain_kedro_run():
    assert run_command([], None, {}) == "kedro run"


def test_pipelines_preset_and_parameters_are_options():
    text = run_command(["validation", "training"], "standard", {"run": {"name": "a b"}})
    assert text == "kedro run --pipelines validation,training --env standard --params 'run.name=a b'"


@pytest.mark.parametrize("value", [None, True, False, 3, 0.5, "auto"])
def test_kedro_reads_the_same_value_back(value):
    words = shlex.split(run_command([], None, {"training": {"device": value}}))
    assert _split_params(None, None, words[-1]) == {"training": {"device": value}}
