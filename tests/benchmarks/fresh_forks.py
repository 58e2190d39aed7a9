"""Processes that have seen no model, without the seconds that importing torch and transformers takes.

One process imports the libraries and nothing else; each command that runs the code of a model is then a fork of it,
with the environment and the arguments of that command. For measuring many models: what users get are new processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__all__ = ["fresh_forks", "use_forks"]


@contextlib.contextmanager
def fresh_forks() -> Iterator[str]:
    """Start the process that is forked and give the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="foundry-forks-") as scratch:
        path = str(Path(scratch) / "socket")
        process = subprocess.Popen([sys.executable, "-m", __name__, path], stdout=subprocess.PIPE)
        assert process.stdout
        try:
            assert process.stdout.readline(), "the libraries could not be imported"
            yield path
        finally:
            process.terminate()
            process.wait()


def use_forks(path: str) -> None:
    """Have this process start the commands that verify and reload packages as forks."""
    from transformer_foundry.core.export import verify_file
    from transformer_foundry.core.publishing.hub import verify_published

    class Forked:
        def __init__(self, command: list[str], *, env: dict[str, str], stderr: Any, **_: Any) -> None:
            self._code = _ask(path, command, env, stderr.name)

        def wait(self, _timeout: float | None = None) -> int:
            return self._code

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as errors:
            code = _ask(path, command, env, errors.name)
            return SimpleNamespace(returncode=code, stderr=errors.read())

    kept = {"DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
    verify_file.subprocess = SimpleNamespace(Popen=Forked, **kept)  # type: ignore[assignment]
    verify_published.subprocess = SimpleNamespace(run=run, **kept)  # type: ignore[assignment]


def _ask(path: str, command: list[str], environment: dict[str, str], errors: str) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(json.dumps([command, environment, errors]).encode() + b"\n")
        return int(connection.makefile().readline())


def _serve(path: str) -> None:
    import safetensors.torch  # noqa: F401
    import tokenizers  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel  # noqa: F401

    torch.set_num_threads(1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                command, environment, errors = json.loads(connection.makefile().readline())
                child = os.fork()
                if child == 0:
                    os._exit(_run(command, environment, errors))
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _run(command: list[str], environment: dict[str, str], errors: str) -> int:
    """Run ``python -m MODULE ARGUMENT ...`` in this fork; return its exit code."""
    import huggingface_hub
    import transformers.dynamic_module_utils

    _, _, module, *arguments = command
    os.environ.clear()
    os.environ.update(environment)
    # Read when the libraries were imported, from the environment of another process.
    huggingface_hub.constants.HF_HUB_OFFLINE = environment.get("HF_HUB_OFFLINE") == "1"
    if "HF_HOME" in environment:
        huggingface_hub.constants.HF_HUB_CACHE = str(Path(environment["HF_HOME"]) / "hub")
    with tempfile.TemporaryDirectory(prefix="foundry-modules-") as modules, open(errors, "w") as file:
        transformers.dynamic_module_utils.HF_MODULES_CACHE = modules
        os.dup2(file.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = [module, *arguments]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            return 1
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
