"""Describe the machine and the software of a run."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.secrets import redact

__all__ = ["PACKAGES", "describe_environment", "git_revision", "package_versions"]

PACKAGES = (
    "transformer-foundry",
    "torch",
    "numpy",
    "kedro",
    "transformers",
    "tokenizers",
    "datasets",
    "safetensors",
    "huggingface_hub",
    "optuna",
    "onnx",
    "onnxruntime",
    "gguf",
    "wandb",
)
"""Distributions whose versions may explain different results."""

_GIT_TIMEOUT_S = 5


def describe_environment() -> dict[str, Any]:
    """Return versions, platform, GPU, git revision of the working directory and command line; plain values only.

    Imports nothing: the GPU is included only if torch is already loaded.
    """
    return {
        "python": platform.python_version(),
        "packages": dict(package_versions()),
        "platform": platform.platform(),
        "processor_count": os.cpu_count(),
        "gpu": _gpu_name(),
        "git_revision": git_revision(Path.cwd()),
        "command": [redact(argument) for argument in _command()],
    }


def _command() -> list[str]:
    """Return the command line as a user types it: ``python -m kedro`` for .../kedro/__main__.py."""
    program, *arguments = sys.argv or [""]
    path = Path(program)
    return [*(["python", "-m", path.parent.name] if path.name == "__main__.py" else [program]), *arguments]


@functools.cache
def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the versions of the distributions ``names`` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision(folder: Path) -> str | None:
    """Return the commit checked out in ``folder``, with ``-dirty`` if files differ; None outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
