"""A fresh process that loads a file and says what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.export import small_models
from transformer_foundry.core.export import verify_file
from transformer_foundry.core.export.capture.export_source import ExportSource
from transformer_foundry.core.export.verification.parity import make_cases, write_cases
from transformer_foundry.core.export.verify_file import Verification


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    source = ExportSource(small_models.RotaryGpt().eval(), small_models.make_inputs(), 24)
    write_cases(make_cases(source.wrapper, source.inputs, [(1, 2), (2, 3)], lambda _: None), tmp_path / "cases")
    return tmp_path / "cases"


def test_a_file_that_cannot_be_loaded_is_explained(tmp_path: Path, cases: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    rows, failure = Verification("onnx", tmp_path / "model.onnx", cases).wait()
    assert rows == []
    assert failure.startswith("fails when it is loaded in a fresh process: ")


def test_a_failure_names_its_shape(tmp_path: Path, cases: Path) -> None:
    program = "\n".join(
        [
            "print('{this is no report', end='')",
            "def load_model():",
            "    def run(input_ids):",
            "        if input_ids.shape[0] == 2: raise ValueError('only one row')",
            "        return input_ids",
            "    return run",
        ]
    )
    (tmp_path / "load_example.py").write_text(program)
    rows, failure = Verification("pytorch", tmp_path / "model.safetensors", cases).wait()
    assert [row["batch"] for row in rows] == [1]
    assert failure == "fails at (batch, length) = (2, 3) in a fresh process: ValueError: only one row"


def test_a_process_that_hangs_fails(tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_file, "TIMEOUT_S", 0.2)
    (tmp_path / "load_example.py").write_text("while True: pass")
    _, failure = Verification("pytorch", tmp_path / "model.safetensors", cases).wait()
    assert "still running after 0.2 s" in failure


def test_the_code_of_a_model_gets_no_token(tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HF_TOKEN", "WANDB_API_KEY", "DATABASE_URL")
    for name in names:
        monkeypatch.setenv(name, "postgresql://alice:not-a-real-one@localhost/studies")
    monkeypatch.setenv("OPENAI_KEY", "named otherwise than secrets are")
    asked = (*names, "OPENAI_KEY", "PATH")
    program = f"import os\nraise ValueError([name for name in {asked} if name in os.environ])"
    (tmp_path / "load_example.py").write_text(program)
    _, failure = Verification("pytorch", tmp_path / "model.safetensors", cases).wait()
    assert failure.endswith("ValueError: ['PATH']")
