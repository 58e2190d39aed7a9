"""Every bad input ends the real command with at most three clear lines, exit code 2 and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.foundry import SAMPLES, kedro_run


def no_folder(folder: Path) -> dict[str, object]:
    return {"model.source": folder / "nowhere"}


def no_model_file(folder: Path) -> dict[str, object]:
    (folder / "config.json").write_text("{}")
    return {"model.source": folder}


def syntax_error(folder: Path) -> dict[str, object]:
    (folder / "config.json").write_text("{}")
    (folder / "model.py").write_text("import torch\n\nclass Model(torch.nn.Module)\n    pass\n")
    return {"model.source": folder}


def vocabulary_mismatch(folder: Path) -> dict[str, object]:
    shutil.copytree(SAMPLES / "gpt", folder, dirs_exist_ok=True)
    source = (folder / "model.py").read_text()
    (folder / "model.py").write_text(source.replace("nn.Embedding(vocab_size,", "nn.Embedding(300,"))
    config = json.loads((folder / "config.json").read_text()) | {"tie_weights": False}
    (folder / "config.json").write_text(json.dumps(config))
    return {"model.source": folder}


CASES: list[tuple[str, Callable[[Path], dict[str, object]], str, list[str]]] = [
    ("validation", no_folder, "a folder that is not there", ["nowhere"]),
    ("validation", no_model_file, "a folder without model.py", ["model.py"]),
    ("validation", syntax_error, "a syntax error", ["model.py", "3"]),
    ("validation", vocabulary_mismatch, "a vocabulary that differs", ["vocab_size", "512"]),
    ("training", lambda _: {"training.learning_rat": 1}, "an unknown parameter", ["learning_rat", "learning_rate"]),
    ("training", lambda _: {"trainin.learning_rate": 1}, "an unknown section", ["trainin", "training"]),
    ("training", lambda _: {"training.learning_rate": -1}, "a negative learning rate", ["learning_rate", "-1"]),
    ("training", lambda _: {"training.learning_rate": "abc"}, "a rate that is no number", ["learning_rate", "abc"]),
    ("training", lambda _: {"training.max_steps": 0}, "zero steps", ["max_steps", "0"]),
    ("trainin", lambda _: {}, "an unknown pipeline", ["trainin", "training"]),
    ("", syntax_error, "a syntax error in a run of all pipelines", ["model.py", "3"]),
    ("data_engineering", lambda _: {"data.source": "no/such.csv"}, "a data file that is not there", ["no/such.csv"]),
]


@pytest.mark.parametrize(("pipelines", "prepare", "case", "said"), CASES, ids=[case for _, _, case, _ in CASES])
def test_bad_input_is_refused_in_three_lines(
    tmp_path: Path, pipelines: str, prepare: Callable[[Path], dict[str, object]], case: str, said: list[str]
) -> None:
    export = tmp_path / "export"
    export.mkdir()
    result = kedro_run(tmp_path / "data", pipelines, prepare(export))
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert 1 <= len(result.stderr.strip().splitlines()) <= 3, result.stderr
    for word in said:
        assert word in result.stderr
