"""The choice of the file that the browser page runs; ``test_page`` runs the page itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources

import pytest

MB = 10**6
SIZES = {"model.safetensors": 9, "model.onnx": 100 * MB, "model-half.onnx": 50 * MB, "model-small.onnx": 26 * MB}
COMPUTES = {"model-half.onnx": "float16", "model-small.onnx": "float32 from int8 weights"}


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize(
    ("left_out", "chosen"),
    [
        ((), "model-small.onnx"),
        (("model-small.onnx",), "model.onnx"),
        (("model-small.onnx", "model.onnx"), "model-half.onnx"),
    ],
)
def test_the_page_runs_the_smallest_file_that_is_fast(left_out: tuple[str, ...], chosen: str) -> None:
    entries = [
        {"file": file, "size_bytes": size, **({"computes": COMPUTES[file]} if file in COMPUTES else {})}
        for file, size in SIZES.items()
        if file not in left_out
    ]
    assert choose(entries) == chosen


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_page_runs_a_small_model_in_full_precision_as_the_other_programs_do() -> None:
    entries = [{"file": file, "size_bytes": size // 10} for file, size in SIZES.items()]
    assert choose(entries) == "model.onnx"


def choose(entries: list[dict[str, object]]) -> str:
    script = resources.files("transformer_foundry.core.publishing.package.templates").joinpath("model.js").read_text()
    [function] = re.findall(r"^function chooseFile.*?^}", script, re.M | re.S)
    [limit] = re.findall(r"^const FULL_PRECISION_BYTES = .*$", script, re.M)
    manifest = {"formats": [*entries, {"file": None, "status": "failed"}]}
    program = f"{limit}\n{function}\nconsole.log(chooseFile({json.dumps(manifest)}).file)"
    done = subprocess.run(["node", "--eval", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()
