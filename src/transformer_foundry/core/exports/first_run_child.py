"""The process of :mod:`first_run`: limits first, then the model's code, then one file that says how it went."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from transformer_foundry.core.errors import ExportError
from transformer_foundry.core.exports.first_run import RESULT_FILE

__all__ = ["main"]

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_MAX_FILE_BYTES = 2**20
_SHARE_OF_FREE_MEMORY = 0.9
_PROGRAMS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown",
            "os.truncate", "shutil.rmtree")  # fmt: skip


def main(job: dict[str, Any]) -> None:
    """Try the model that ``job`` describes and write the result into its scratch folder."""
    _leave_network()
    import torch  # The limits are for the model: torch itself maps gigabytes.

    from transformer_foundry.core.exports.fetch import Export

    torch.set_num_threads(min(torch.get_num_threads(), 4))
    export = Export(
        folder=Path(job["folder"]), source=job["source"], revision=None, config=job["config"],
        model_code=job["model_code"], sha256=job["sha256"],
    )  # fmt: skip
    reached: list[str] = []
    _import_what_calls_need()
    _limit(job["seconds"])
    _watch(reached, job)
    result = _try(export)
    result["reached"] = list(dict.fromkeys(reached))
    (Path(job["scratch"]) / RESULT_FILE).write_text(json.dumps(result), encoding="utf-8")
    # Threads and exit handlers of the model's code have nothing to say any more.
    os._exit(0)


def _leave_network() -> None:
    """Take a network of one's own, with nothing in it, where the system allows that; only before there are threads."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NETWORK)


def _import_what_calls_need() -> None:
    """Load now what building a model loads later: once watched, Foundry's own reading would count as the model's."""
    import linecache  # noqa: F401

    from transformer_foundry.core.exports import build, contract, first_call, roles  # noqa: F401


def _limit(seconds: float) -> None:
    try:
        import resource
    except ImportError:  # Windows: the parent's limit of wall time remains
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with contextlib.suppress(OSError, ValueError, KeyError):
        numbers = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(numbers["MemAvailable"].split()[0]) * 1024
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = mapped + int(_SHARE_OF_FREE_MEMORY * free)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _watch(reached: list[str], job: dict[str, Any]) -> None:
    """Note and refuse what a model has no need of; an audit hook cannot be taken away, native code can go past it."""
    scratch, home = os.path.realpath(job["scratch"]), os.path.realpath(job["home"])
    readable = tuple(
        os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, job["folder"], scratch, *sys.path) if path
    )

    def refuse(what: str) -> None:
        reached.append(what)
        raise PermissionError(f"{what}: not in a model's first run")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NETWORK:
            refuse("it uses the network")
        elif event in _PROGRAMS:
            refuse("it starts another program")
        elif event in _CHANGES and not _is_under(arguments[0], (scratch,)):
            refuse(f"it changes {str(arguments[0])[:100]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                if not _is_under(path, (scratch, "/dev/null", "/dev/shm")):
                    refuse(f"it writes {os.fsdecode(path)[:100]}")
            elif (_is_under(path, (home,)) and not _is_under(path, readable)) or _is_environment(path):
                refuse(f"it reads {os.fsdecode(path)[:100]}")

    sys.addaudithook(hook)


def _is_under(path: Any, folders: tuple[str, ...]) -> bool:
    real = os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
    return any(real == folder or real.startswith(folder.rstrip("/") + "/") for folder in folders)


def _is_environment(path: Any) -> bool:
    real = os.path.normpath(os.fsdecode(path))
    return real.startswith("/proc/") and real.endswith(("/environ", "/mem", "/cmdline"))


def _try(export: Any) -> dict[str, Any]:
    from transformer_foundry.core.exports.build import build_model
    from transformer_foundry.core.exports.first_call import first_probe
    from transformer_foundry.core.exports.isolation import undisturbed
    from transformer_foundry.core.exports.roles import read_roles

    try:
        model = build_model(export, seed=0)
        sizes = [tensor.numel() * tensor.element_size() for tensor in model.parameters()]
        result = {"parameters": sum(item.numel() for item in model.parameters()), "bytes": sum(sizes)}
        with undisturbed(model):
            first_probe(model, read_roles(model, export.config), export.config)
        return result | {"outcome": "ran"}
    except ExportError as err:
        return _judge(err)
    except MemoryError:
        return _judge(ExportError("The model takes more memory than is free.", "Expected it to fit."))


def _judge(error: ExportError) -> dict[str, Any]:
    """What the model's code raises is told by whoever builds it next; memory that is not there would not be either."""
    cause = error.__cause__
    is_memory = isinstance(cause, MemoryError) or (
        isinstance(cause, RuntimeError) and any(word in str(cause) for word in ("allocate", "out of memory"))
    )
    if not is_memory:
        return {"outcome": "raised"}
    remedy = error.remedy or "Make the sizes in config.json smaller (vocab_size, d_model, num_layers, max_seq_len)."
    return {"refused": [error.problem, "Expected a model that fits the memory that is free on this machine.", remedy]}
