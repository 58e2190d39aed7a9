"""Reload a published revision in a fresh process and compare it with the package; also run that process.

Usage: ``python -m transformer_foundry.core.publishing.hub.verify_published PACKAGE REPO REVISION REPORT``. The process
reads the Hub's files from a new cache that its parent has filled. It runs the code of a model, so its environment holds
neither the token nor any other variable that it does not need.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export.verify_file import lean_environment
from transformer_foundry.core.publishing.hub.errors import publish_later, with_retries
from transformer_foundry.core.publishing.package.package import Package, read_package

__all__ = ["main", "verify_published"]

TIMEOUT_S = 1800
_LENGTHS = ((1, 1), (3, 7), (2, 16))


def verify_published(package: Package, repo_id: str, revision: str, *, token: str, endpoint: str) -> float:
    """Return the largest difference between the logits of the published revision and those of the package.

    Raises:
        DeploymentError: If the revision cannot be loaded, or differs by more than the package's formats may.
    """
    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory(prefix="foundry-reload-") as scratch:
        download = {"cache_dir": Path(scratch) / "hub", "token": token, "endpoint": endpoint}
        with_retries(lambda: snapshot_download(repo_id, revision=revision, **download))
        report = Path(scratch) / "report.json"
        program = [sys.executable, "-m", f"{__package__}.verify_published"]
        environment = lean_environment() | {"HF_HOME": scratch, "HF_HUB_DISABLE_TELEMETRY": "1"}
        problem = _run([*program, str(package.folder.absolute()), repo_id, revision, str(report)], environment)
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    if problem or not found:
        raise _failure(package, repo_id, revision, f"cannot be reloaded: {problem or 'no answer'}")
    if found["difference"] > found["allowed"]:
        raise _failure(package, repo_id, revision, f"differs from the package by {found['difference']:.3g}")
    return float(found["difference"])


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run the process; return why it failed, empty if it did not."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"still running after {TIMEOUT_S} s"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")


def _failure(package: Package, repo_id: str, revision: str, problem: str) -> DeploymentError:
    return DeploymentError(
        f"Revision {revision[:12]} of {repo_id} was published, but {problem}",
        "A release is tagged only when a fresh process gets the model's own logits from it.",
        f"Publish again, which finishes what is left to do. {publish_later(package.folder, repo_id)}",
    )


def main(arguments: list[str]) -> int:
    """Compare ``PACKAGE`` with ``REPO`` at ``REVISION`` and write ``REPORT``."""
    import numpy as np
    from huggingface_hub import snapshot_download

    from transformer_foundry.core.export.formats.table import TRANSFORMERS_FORMAT
    from transformer_foundry.core.export.transformers_code.open_model import open_transformers
    from transformer_foundry.core.export.verify_file import open_file

    folder, repo_id, revision, report = arguments
    package = read_package(folder)
    published = read_package(snapshot_download(repo_id, revision=revision))
    models = [open_file("pytorch", published.folder / "model.safetensors")]
    if any(item["format"] == TRANSFORMERS_FORMAT for item in _verified(published)):
        # By the name of the repository, as its users do.
        models.append(open_transformers(repo_id, revision=revision))
    own = open_file("pytorch", package.folder / "model.safetensors")
    difference, largest = 0.0, 1.0
    for inputs in _inputs(package.manifest):
        expected = own(inputs)
        largest = max(largest, float(np.abs(np.nan_to_num(expected, posinf=0, neginf=0)).max(initial=0.0)))
        difference = max([difference, *(_distance(expected, model(inputs)) for model in models)])
    allowed = float(package.manifest["tolerance"]) * largest
    Path(report).write_text(json.dumps({"difference": difference, "allowed": allowed}), encoding="utf-8")
    return 0


def _verified(package: Package) -> list[Mapping[str, Any]]:
    return [item for item in package.manifest["formats"] if item["status"] == "verified"]


def _inputs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    from transformer_foundry.core.export.verification.reference_inputs import reference_inputs

    contract: Any = SimpleNamespace(**manifest["model"]["contract"])
    special = [number for number in manifest["special_token_ids"].values() if number is not None]
    make: Callable[[int, int], Any] = reference_inputs(contract, manifest["special_token_ids"]["pad"], special)
    longest = contract.max_length or max(length for _, length in _LENGTHS)
    shapes = dict.fromkeys((batch, min(length, longest)) for batch, length in _LENGTHS)
    return [{name: value.numpy() for name, value in make(*shape).items()} for shape in shapes]


def _distance(expected: Any, found: Any) -> float:
    import numpy as np

    if expected.shape != found.shape:
        raise ValueError(f"logits of shape {found.shape} instead of {expected.shape}")
    if np.array_equal(expected, found, equal_nan=True):
        return 0.0
    return float(np.nan_to_num(np.abs(expected - found), nan=np.inf).max())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
