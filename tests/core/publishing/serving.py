"""Packages that can be served, their programs as modules, and processes in which only what they name is there."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.core.export import small_models
from tests.core.publishing.packaging import make_package, write_export
from transformer_foundry.core.models import Adapter
from transformer_foundry.core.publishing import Package

MODELS = {
    "causal_lm": (small_models.RotaryGpt, {"eos_token_id": 2}),
    "masked_lm": (small_models.MaskedEncoder, {"model_type": "bert", "pad_token_id": 0, "mask_token_id": 4}),
    "sequence_classification": (small_models.MaskedEncoder, {"num_classes": 3, "pad_token_id": 0}),
    "seq2seq_lm": (small_models.Translator, {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}),
}
# What a machine that only serves the model does not have.
ABSENT = ("torch", "transformers", "transformer_foundry", "safetensors", "onnx", "pandas", "kedro")
_NEEDED = {
    "inference": ("verify_files", "text_encoding", "text_generation"),
    "server": ("inference", "server_limits", "server_metrics", "server_openai", "server_pages"),
}

_MADE: list[Path] = []


@functools.cache
def served_package(task: str) -> tuple[Adapter, Package]:
    """Return a model of the task and its package with an ONNX file, made once in a process."""
    model, config = MODELS[task]
    folder = Path(tempfile.mkdtemp(prefix="foundry-served-"))
    _MADE.append(folder)
    return make_package(write_export(folder / task, model, **config), formats=["pytorch", "onnx"], page=False)


def forget_packages() -> None:
    """Delete what ``served_package`` has made."""
    while _MADE:
        shutil.rmtree(_MADE.pop(), ignore_errors=True)
    served_package.cache_clear()


def module_of(folder: Path, name: str) -> ModuleType:
    """Import ``name``.py of a package, and before it what it imports by plain names."""
    for needed in _NEEDED.get(name, ()):
        module_of(folder, needed)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alone(program: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of the working directory where ``ABSENT`` cannot be imported."""
    prelude = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT})); sys.path.insert(0, '.')\n"
        f"sys.argv = [{program!r}, *sys.argv[1:]]; runpy.run_path({program!r}, run_name='__main__')"
    )
    return [sys.executable, "-I", "-B", "-c", prelude, *arguments]


def copied_by_docker(package: Path, target: Path) -> Path:
    """Copy what the Dockerfile copies, so that a file it forgets is missed."""
    target.mkdir()
    for line in re.findall(r"^COPY (.*) \./$", (package / "Dockerfile").read_text(), re.M):
        for pattern in line.split():
            matching = fnmatch.filter(os.listdir(package), pattern)
            assert matching, pattern
            for name in matching:
                shutil.copy(package / name, target / name)
    return target


@contextlib.contextmanager
def running_server(folder: Path, command: list[str] | None = None, **settings: str) -> Iterator[int]:
    """Run ``server.py`` as a process, by default ``alone``, and give its port once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PORT": str(port), **settings}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command or alone("server.py"), cwd=folder, env=environment, stderr=log, stdout=log)
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
                raise AssertionError((folder / "server.log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait()


def ask(port: int, path: str, body: Any = None, content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
    """Send a request, ``body`` as JSON unless it is bytes, and return the status and the answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as err:
        with err:
            return err.code, json.load(err)
