"""The process of a trial run: restrict it, run the model's code, write one line with the result."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.python_text import parse_python
from transformer_foundry.core.models.sandbox.audit_hook import kernel_report, watch
from transformer_foundry.core.models.sandbox.landlock import restrict_files
from transformer_foundry.core.models.sandbox.seccomp import restrict_calls
from transformer_foundry.core.system.memory import system_available_bytes

if TYPE_CHECKING:
    from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["main"]

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_DUMPABLE = 4
_MAX_FILE_BYTES = 2**20
_MOST_OPEN_FILES = 256
_SHARE_OF_FREE_MEMORY = 0.9


def main(job: dict[str, Any]) -> None:
    """Try the model that ``job`` describes, and send the result over ``job["channel"]``, a line of JSON each.

    The channel is the model's own word. What the code tries goes to the parent through the kernel, which code cannot
    close or fill; only a system without a listener of calls has nothing but the channel for it.
    """
    channel, readable = _take_output(job["channel"]), job["readable"]
    size_file = _open_size_file()
    protections, is_watched = _restrict(readable, job["scratch"], channel)
    import torch  # before the limits, which are for the model: torch itself maps gigabytes

    from transformer_foundry.core.models.source.read import ModelSource

    torch.set_num_threads(min(torch.get_num_threads(), 4))
    export = ModelSource(
        folder=Path(job["folder"]), source=job["source"], revision=None, config=job["config"],
        model_code=job["model_code"], sha256=job["sha256"], support=job["support"],
    )  # fmt: skip
    _import_own_modules()
    for code in export.code_files.values():
        _import_libraries(code)
    _limit(job["seconds"], size_file)

    def send(**message: Any) -> None:
        write(channel, dumps(message).encode() + b"\n")

    write, dumps = os.write, json.dumps  # the model's code can replace the attributes of modules
    # The last line before the model's code: until here nobody else has written to the channel.
    send(ready=protections)
    report = kernel_report() if is_watched else lambda what: send(reached=what)
    watch(report, readable, job["scratch"])
    send(result=_try(export))
    # Skip the threads and exit handlers of the model's code.
    os._exit(0)


def _take_output(channel: int | None) -> int:
    """Return the descriptor for messages, by default the standard output, and discard what the model prints."""
    channel = os.dup(1) if channel is None else channel
    discarded = os.open(os.devnull, os.O_WRONLY)
    os.dup2(discarded, 1)
    os.close(discarded)
    return channel


def _open_size_file() -> int | None:
    """Open what says how much memory is mapped: later, the process may not open it any more."""
    with contextlib.suppress(OSError):
        return os.open("/proc/self/statm", os.O_RDONLY)
    return None


def _restrict(readable: Sequence[str], scratch: str, channel: int) -> tuple[list[str], bool]:
    """Apply the protections that the system supports, before any thread starts.

    Returns:
        Their names, and whether the parent sees the calls that are refused.
    """
    if not sys.platform.startswith("linux"):
        return [], False
    names = ["network"] if _leave_network() else []
    # Entering a namespace of users hides the process from its parent, which reads the paths that it opens.
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)
    has_files = restrict_files(readable, (scratch, os.devnull))
    names += ["files"] if has_files else []
    is_watched = False

    def send_listener(descriptor: int) -> None:
        nonlocal is_watched
        with socket.socket(fileno=os.dup(channel)) as connection:
            socket.send_fds(connection, [b"\n"], [descriptor])
        is_watched = True

    names += ["calls"] if restrict_calls(send_listener, channel=channel) else []
    return names, is_watched


def _leave_network() -> bool:
    """Enter an empty network namespace, if the system allows it."""
    try:
        failed: int = ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NETWORK)
    except (OSError, AttributeError):  # a C library without it
        return False
    return failed == 0


def _import_own_modules() -> None:
    """Import what building a model imports: later, the audit hook would attribute it to the model."""
    import linecache  # noqa: F401

    from transformer_foundry.core.models.building import build  # noqa: F401
    from transformer_foundry.core.models.inference import argument_roles, infer_contract, probe  # noqa: F401


def _import_libraries(code: str) -> None:
    """Import the known libraries that ``code`` imports, since the audit hook would refuse their native code."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):  # such code cannot run either
        for node in ast.walk(parse_python(code)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    _import_one(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    _import_one(node.module, alias.name)


def _import_one(module: str, name: str = "") -> None:
    from transformer_foundry.core.models.source.static_scan import ALLOWED_IMPORTS

    if module.split(".")[0] in ALLOWED_IMPORTS:
        # If it fails, the model's own import raises the same error again, which is then reported.
        with contextlib.suppress(Exception):
            getattr(importlib.import_module(module), name, None)  # some libraries load submodules lazily


def _limit(seconds: float, size_file: int | None) -> None:
    try:
        import resource
    except ImportError:  # Windows: only the parent's limit of wall time applies
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_OPEN_FILES, _MOST_OPEN_FILES))
    free = system_available_bytes()
    if free is not None and size_file is not None:
        mapped = int(os.pread(size_file, 100, 0).split()[0]) * resource.getpagesize()
        os.close(size_file)
        most = mapped + int(_SHARE_OF_FREE_MEMORY * free)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _try(export: ModelSource) -> dict[str, Any]:
    from transformer_foundry.core.models.building.build import build_model
    from transformer_foundry.core.models.inference.argument_roles import read_roles
    from transformer_foundry.core.models.inference.probe import first_probe
    from transformer_foundry.core.models.side_effects import no_side_effects

    try:
        model = build_model(export, seed=0)
        sizes = [tensor.numel() * tensor.element_size() for tensor in model.parameters()]
        result = {"parameters": sum(item.numel() for item in model.parameters()), "bytes": sum(sizes)}
        with no_side_effects(model):
            first_probe(model, read_roles(model, export.config), export.config)
        return result | {"outcome": "ran"}
    except ModelError as err:
        return _judge(err)
    except MemoryError:
        return {"too_large": "The model needs more memory than is free."}


def _judge(error: ModelError) -> dict[str, Any]:
    """Refuse a model without enough memory; any other error is raised again, and reported, by the next build."""
    cause = error.__cause__
    is_memory = isinstance(cause, MemoryError) or (
        isinstance(cause, RuntimeError) and any(word in str(cause) for word in ("allocate", "out of memory"))
    )
    if not is_memory:
        return {"outcome": "raised"}
    return {"too_large": error.problem}
