"""Verify one exported file in a process of its own: load it, run the reference inputs, compare.

A process that has never seen the model cannot borrow anything from it. Used by ``export_model`` as::

    python -m transformer_foundry.core.export.verification.verify_file FORMAT FILE CASES REPORT [LABELLED]

It writes a line of JSON to REPORT for each case, at once, so that a crash is known by the case it happened at. What the
model's code prints is its own affair.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from transformer_foundry.core.export.names import TRANSFORMERS_FORMAT, VARIANT_FORMATS
from transformer_foundry.core.export.verification.open_transformers import open_transformers
from transformer_foundry.core.export.verification.parity import compare, read_cases
from transformer_foundry.core.export.verification.quality import Score, difference, score_logits

__all__ = ["main", "open_file"]

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def open_file(format_name: str, path: Path) -> Run:
    """Return a function that runs the exported file ``path`` on named arrays and returns logits."""
    if format_name == TRANSFORMERS_FORMAT:
        return open_transformers(str(path.parent))
    openers = {"pytorch": _open_pytorch, "pt2": _open_pt2, "onnx": _open_onnx, "torchscript": _open_torchscript}
    return openers[format_name.partition("-")[0]](path)


def _open_pytorch(path: Path) -> Run:
    import importlib.util

    # What is tried is the script that is shipped, with nothing but the folder it lies in.
    spec = importlib.util.spec_from_file_location("load_example", path.with_name("load_example.py"))
    assert spec, path
    assert spec.loader, path
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return _named(example.load_model())


def _open_pt2(path: Path) -> Run:
    import torch

    return _positional(torch.export.load(path).module())


def _open_torchscript(path: Path) -> Run:
    import warnings

    import torch

    with warnings.catch_warnings():
        # Deprecated since torch 2.11, without a date of removal; the file is labelled legacy.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _positional(torch.jit.load(str(path)))


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = [item.name for item in session.get_inputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return session.run(None, {name: inputs[name] for name in taken})[0]

    return run


def _positional(model: Callable[..., Any]) -> Run:
    import torch

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return model(*(torch.from_numpy(value) for value in inputs.values())).float().numpy()

    return run


def _named(model: Callable[..., Any]) -> Run:
    import torch

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).float().numpy()

    return run


def main(arguments: list[str]) -> int:
    """Verify ``FORMAT FILE CASES`` and write ``REPORT``; score the rows of ``LABELLED`` if there is one."""
    format_name, path, cases, report, *labelled = arguments
    run = open_file(format_name, Path(path))
    is_variant = format_name in VARIANT_FORMATS
    with Path(report).open("w", encoding="utf-8", buffering=1) as lines:
        for case in read_cases(Path(cases)):
            place = {"batch": case.batch, "length": case.length}
            lines.write(json.dumps({"trying": place}) + "\n")
            logits = run(case.inputs)
            error, problem = (None, "") if is_variant else compare(case, logits)
            found = difference(case, logits) if is_variant else {"max_abs_error": error, "problem": problem}
            lines.write(json.dumps(place | found) + "\n")
        for file in labelled:
            # What such a case holds in place of logits are labels.
            scores = [score_logits(run(case.inputs), case.logits) for case in read_cases(Path(file))]
            total = Score.total(scores)
            lines.write(json.dumps({"score": total and asdict(total)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
