"""Both notebooks run from top to bottom in the environment of Colab, and stay short."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.colab import colab_kernel, colab_packages
from tests.colab.session import BLOCKED, NOTEBOOKS, STUB, execute, read, shown
from tests.integration.foundry import PROJECT, SAMPLES

NAMES = ("template.ipynb", "training.ipynb")
MOST_CELLS = {"template.ipynb": 10, "training.ipynb": 12}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt", "t5"])
def test_the_validation_notebook_gives_a_verdict_with_the_packages_of_colab(kind: str) -> None:
    notebook = read("template.ipynb", SOURCE=f"data/01_raw/exports/{kind}")
    printed = execute(notebook, path=BLOCKED)
    assert "PASS" in printed
    assert "of the 12 GB" in printed
    assert len(shown(notebook, "image/png")) == 1


@pytest.mark.slow
def test_the_validation_notebook_downloads_the_project_and_reports_an_error(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "src", tmp_path / "made/foundry-main/src", ignore=ignored)
    archive = shutil.make_archive(str(tmp_path / "main"), "zip", tmp_path / "made")
    model = tmp_path / "deaf"
    shutil.copytree(SAMPLES / "gpt", model)
    code = (model / "model.py").read_text()
    (model / "model.py").write_text(code.replace("is_causal=True", "is_causal=False"))
    (tmp_path / "content").mkdir()
    notebook = read("template.ipynb", SOURCE=str(model), ARCHIVE=Path(archive).as_uri())
    assert "FAIL" in execute(notebook, where=tmp_path / "content", path=BLOCKED)
    assert "causality" in shown(notebook, "text/html")[0]


@pytest.mark.slow
def test_every_cell_explains_a_model_that_cannot_be_built(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import torch\n\nclass CustomTransformer(torch.nn.Module):\n    x = 1 / 0\n")
    (tmp_path / "config.json").write_text('{"vocab_size": 50}')
    printed = execute(read("template.ipynb", SOURCE=str(tmp_path)), path=BLOCKED)
    assert "FAIL" in printed
    assert "Fix the model" in printed


def test_both_notebooks_find_the_project_with_the_same_cell() -> None:
    cells = [nbformat.read(NOTEBOOKS / name, as_version=4).cells[1].source for name in NAMES]
    assert cells[0] == cells[1]
    assert cells[0].count("ARCHIVE = ") == 1


@pytest.mark.slow
def test_the_training_notebook_goes_from_the_model_to_the_package_on_colab(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kernel = colab_kernel(request.config.cache.mkdir("colab-kernel"))
    notebook = read("training.ipynb", STEPS=6, DATA_DIR=str(tmp_path / "data"))
    notebook.cells.append(nbformat.v4.new_code_cell("import IPython\nprint('IPython', IPython.__version__)"))
    printed = execute(notebook, path=os.pathsep.join(map(str, filter(None, (kernel, STUB)))))
    assert "The secret WANDB_API_KEY is not used (NotebookAccessError)" in printed
    assert "Keys found: HF_TOKEN" in printed
    assert "Training starts at step 0 of 6" in printed
    assert "input_ids of row 0" in printed
    assert "\nThe statement" in printed
    assert any("foundry-live" in page and "<polyline" in page for page in shown(notebook, "text/html"))
    manifest = json.loads((tmp_path / "data/07_model_output/gpt/manifest.json").read_text())
    assert {item["status"] for item in manifest["formats"]} == {"verified"}
    if kernel is None:
        pytest.skip("pip reaches no package index: it ran with this environment's IPython, not with Colab's")
    assert f"IPython {colab_packages('3.13')['ipython']}\n" in printed


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_short_and_committed_without_outputs(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= MOST_CELLS[name]
    assert all(len(cell.source.splitlines()) <= 15 for cell in code)
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE) for cell in code)


def test_tracking_needs_no_code() -> None:
    code = [cell.source for cell in nbformat.read(NOTEBOOKS / "training.ipynb", as_version=4).cells]
    assert not [line for cell in code for line in cell.splitlines() if re.search(r"wandb|tracking|WANDB", line)]


def test_the_reasons_in_a_notebook_are_short() -> None:
    text = "".join(cell.source for name in NAMES for cell in nbformat.read(NOTEBOOKS / name, as_version=4).cells)
    reasons = re.findall(r"<!-- why: (.*?) -->", text, re.DOTALL)
    assert reasons
    assert max(len(reason.split()) for reason in reasons) <= 25
