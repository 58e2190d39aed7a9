from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.core.checks.models import write_export
from transformer_foundry.core.checks.__main__ import main

# Everything that the checks may import besides the standard library, and what those libraries import themselves.
BLOCKER = """
import sys
blocked = ("kedro", "transformers", "datasets", "tokenizers", "optuna", "onnx", "onnxruntime", "huggingface_hub",
           "safetensors", "wandb", "plotly", "omegaconf", "sklearn", "pydantic", "kedro_datasets", "kedro_viz")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from transformer_foundry.core.checks.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_sound_export_ends_with_0_and_writes_the_report(tmp_path, capsys):
    export = write_export(tmp_path / "export", "gpt")
    assert main([str(export), "--report", str(tmp_path / "out" / "report.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Checking {export} ..."
    assert lines[1].startswith("PASS")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["status"] == "pass"


def test_a_faulty_export_ends_with_1(tmp_path, capsys):
    export = write_export(tmp_path / "export", "gpt", {"triu(1)": "triu(2)"})
    assert main([str(export), "--kind", "decoder_only"]) == 1
    assert "causality" in capsys.readouterr().out


def test_an_export_that_cannot_be_read_ends_with_2_and_three_lines(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert 1 <= len(capsys.readouterr().err.strip().splitlines()) <= 3


@pytest.mark.parametrize("code", ["class (", "import nothing_of_this_name", "x = 1", "raise SystemExit(3)"])
def test_code_that_cannot_be_built_is_a_finding_with_a_place(code, tmp_path):
    export = write_export(tmp_path / "export", "gpt")
    (export / "model.py").write_text(code)
    assert main([str(export), "--report", str(tmp_path / "report.json")]) == 1
    findings = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert findings[0]["check"] == "builds"
    assert "model.py" in findings[0]["where"]


def test_a_secret_in_an_exception_is_in_no_output(tmp_path, capsys, monkeypatch):
    export = write_export(tmp_path / "export", "gpt")
    path = export / "model.py"
    path.write_text(f"{path.read_text()}\nimport os\nraise RuntimeError('x' * 180 + os.environ.get('HF_TOKEN', ''))")
    monkeypatch.setenv("HF_TOKEN", "canary0123456789" * 9)
    assert main([str(export), "--report", str(tmp_path / "report.json")]) == 1
    written = (tmp_path / "report.json").read_text() + capsys.readouterr().out
    assert "RuntimeError: xxx" in written
    assert "canary" not in written


@pytest.mark.slow
def test_command_and_figure_need_nothing_but_torch_numpy_pandas_and_matplotlib(tmp_path):
    export = write_export(tmp_path / "export", "graph")
    command = [sys.executable, "-c", BLOCKER, str(export), "--figure", str(tmp_path / "figure.png"), "--tier", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_naming_the_package_imports_no_torch():
    code = "import sys; from transformer_foundry.core import checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
