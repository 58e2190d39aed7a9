"""One process for each node, as Airflow runs them, or one thread: the weights are those of one process."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.integration.foundry import kedro_run
from transformer_foundry.pipeline_registry import register_pipelines

pytestmark = pytest.mark.slow

SETTINGS = {"training.max_steps": 4, "training.eval_steps": 2, "data.max_documents": 60}


def weights(data_dir: Path) -> str:
    newest = max((data_dir / "06_models" / "gpt" / "checkpoints").glob("step-*4-*/weights.safetensors"))
    return hashlib.sha256(newest.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("one")
    assert kedro_run(folder, "training", SETTINGS).returncode == 0
    return weights(folder)


def test_each_node_of_training_runs_in_a_process_of_its_own(expected: str, tmp_path: Path) -> None:
    for node in register_pipelines()["training"].nodes:
        result = kedro_run(tmp_path, f"--pipelines training --nodes {node.name}", SETTINGS)
        assert result.returncode == 0, f"{node.name}: {result.stderr}"
    assert weights(tmp_path) == expected


def test_threads_give_the_same_weights(expected: str, tmp_path: Path) -> None:
    result = kedro_run(tmp_path, "--pipelines training --runner ThreadRunner", SETTINGS)
    assert result.returncode == 0, result.stderr
    assert weights(tmp_path) == expected
