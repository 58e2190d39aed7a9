"""Import, build and call a model for the first time, in a separate process with limits and without secrets.

The limits are for code that would exhaust the machine or access something outside the process; it ends only that
process. Ordinary errors of the model's code are left to the next build. A successful trial run is cached by digest.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.files.atomic import replace_file
from transformer_foundry.core.models.options import TRIAL_RUN_SECONDS
from transformer_foundry.core.models.sandbox.readable_paths import private_folders, readable_paths
from transformer_foundry.core.models.sandbox.watcher import Watcher
from transformer_foundry.core.models.source.cache import CONFIG_FILE, MODEL_FILE, default_cache
from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["require_trial_run"]

_STARTING_SECONDS = 30.0
"""Time to start Python and import torch from a cold disk; the child limits the time of the model itself."""

_RECORD_VERSION = 4
_MOST_ATTEMPTS = 50
_MOST_QUOTED_CHARACTERS = 200
_RESULT_TYPES = {"parameters": int, "bytes": int, "outcome": str, "too_large": str}
_HAS_CHANNEL = hasattr(socket, "recv_fds")  # not on Windows
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PROGRAM = (
    "import json, sys; job = json.load(sys.stdin); sys.path[:] = job['sys_path']; "
    "from transformer_foundry.core.models.sandbox.trial_process import main; main(job)"
)


def require_trial_run(
    export: ModelSource, *, seconds: float = TRIAL_RUN_SECONDS, cache_dir: Path | None = None
) -> None:
    """Import, build and call the model of ``export`` once in a separate process, unless that is cached.

    Args:
        export: The export.
        seconds: Limit of wall time and of CPU time.
        cache_dir: Where the result is cached; None uses the user's cache.

    Raises:
        ModelError: If it ran out of time or memory, ended its process, or (external code) tried to use the network,
            other programs or files outside its folder.
    """
    record = (cache_dir or default_cache()) / "first_runs" / f"{export.identity}-{_versions()}.json"
    if _is_cached(record, export):
        return
    result = _run(export, seconds)
    if result.get("refused"):
        raise ModelError(*result["refused"])
    if result.get("reached") and not export.is_local:
        raise _reached_out(export, result["reached"])
    _write_record(record, result)


def _versions() -> str:
    try:
        return f"torch-{importlib.metadata.version('torch')}-{_RECORD_VERSION}"
    except importlib.metadata.PackageNotFoundError:
        return f"torch-{_RECORD_VERSION}"


def _is_cached(path: Path, export: ModelSource) -> bool:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return export.is_local or not result["reached"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_record(path: Path, result: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # without the record the next session tries the model again
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(result), is_shared=True)


def _run(export: ModelSource, seconds: float) -> dict[str, Any]:
    with _scratch_folder() as scratch, tempfile.TemporaryFile() as output:
        folder, paths = str(export.folder.resolve()), _import_paths(export.is_local)
        readable = readable_paths(folder, *paths, private=() if export.is_local else private_folders())
        ours, theirs = socket.socketpair() if _HAS_CHANNEL else (None, None)
        job = {
            "sys_path": paths,
            "readable": readable,
            "channel": None if theirs is None else theirs.fileno(),
            "folder": folder,
            "source": export.source,
            "model_code": export.model_code,
            "support": dict(export.support),
            "config": export.config,
            "sha256": dict(export.sha256),
            "seconds": seconds,
            "scratch": scratch,
        }
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        # No GPU, and no home: it may hold tokens.
        environment = kept | {"HOME": scratch, "TMPDIR": scratch, "CUDA_VISIBLE_DEVICES": ""}
        environment["TORCHDYNAMO_DISABLE"] = "1"  # torch.compile would start a compiler, for the same result
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _PROGRAM], cwd=scratch, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.DEVNULL,
            pass_fds=() if theirs is None else (theirs.fileno(),),
        )  # fmt: skip
        watcher = None
        if ours is not None and theirs is not None:
            theirs.close()
            watcher = Watcher(process.pid, ours, readable, scratch, (folder, *paths))
        is_late = False
        try:
            process.communicate(json.dumps(job).encode(), timeout=seconds + _STARTING_SECONDS)
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            _end(process)
            if watcher is not None:
                watcher.stop()
        output.seek(0)
        messages, reached = (output.read(), []) if watcher is None else (bytes(watcher.messages), watcher.reached)
        walls = [] if watcher is None else watcher.walls
        return _result(messages, reached, process.returncode, is_late, seconds) | {"walls": walls}


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    """Yield a folder that is removed afterwards, as far as possible."""
    folder = tempfile.mkdtemp(prefix="foundry-first-run-")
    try:
        yield folder
    finally:
        # Thousands of nested folders exceed the recursion limit of rmtree.
        with contextlib.suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)


def _import_paths(is_local: bool) -> list[str]:
    """Return where the process imports from, and so what it may read: for external code none of the user's folders."""
    here = str(Path(__file__).parents[4])
    paths = [here, *(path or os.getcwd() for path in sys.path)]
    if is_local:
        return paths
    installed = tuple(os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix))
    return [
        path
        for path in paths
        if path == here
        or os.path.basename(path) in ("site-packages", "dist-packages")
        or os.path.realpath(path).startswith(installed)
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and everything that it has started."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.poll()
    else:
        process.kill()
    process.wait()


def _result(messages: bytes, reached: list[str], code: int, is_late: bool, seconds: float) -> dict[str, Any]:
    """Return what is recorded: what was tried, as the kernel and the hook reported it, and how it ended."""
    result, reported = _read_messages(messages)
    tried = {"reached": list(dict.fromkeys([*reached, *reported]))[:_MOST_ATTEMPTS]}
    if result is not None and not is_late:
        # The process, and so perhaps the model's code, has written this.
        quoted = one_line(result.pop("too_large", ""), _MOST_QUOTED_CHARACTERS)
        return (_too_large(quoted) if quoted else result) | tried
    if tried["reached"] and not is_late:
        return tried
    late = (-getattr(signal, "SIGXCPU", 24), -signal.SIGALRM if hasattr(signal, "SIGALRM") else None)
    if is_late or code in late:
        what = f"The model was not built and called within {seconds:g} seconds; model.py may contain an endless loop."
        remedy = "Correct model.py, or raise model.first_run_seconds for a large model or a slow machine."
    elif code < 0:
        what = f"The process of the trial run was ended by signal {-code}: model.py used too much memory or crashed."
        remedy = "Make the sizes in config.json smaller, or correct what model.py does when it is imported."
    else:
        what = f"model.py ended the process of the trial run (exit status {code})."
        remedy = "Remove the call that ends the process (os._exit, quit), or export the model again."
    return {"refused": [what, "Expected the model to be imported, built and called within the limits.", remedy]}


def _too_large(quoted: str) -> dict[str, Any]:
    remedy = "Make the sizes in config.json smaller (vocab_size, d_model, num_layers, max_seq_len)."
    expected = "Expected a model that fits into the free memory of this machine."
    return {"refused": [f"The code reports: {quoted}", expected, remedy]}


def _read_messages(messages: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the result, None if there is no valid one, and what the code has tried.

    The code may have written lines of its own: they can add attempts, and none can be taken back.
    """
    result, reached = None, []
    for line in messages.splitlines():
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, dict) and isinstance(message.get("reached"), str):
            reached.append(one_line(message["reached"], 200))
        if isinstance(message, dict) and isinstance(message.get("result"), dict):
            found = message["result"]
            if found and all(isinstance(value, _RESULT_TYPES.get(name, ())) for name, value in found.items()):
                result = found
    return result, reached


def _reached_out(export: ModelSource, reached: list[str]) -> ModelError:
    shown = "; ".join(reached[:3])
    return ModelError(
        f"The code of '{export.source}' does more than compute when it is imported, built or called: {shown}.",
        f"Expected external code to use no network, programs or files (except {MODEL_FILE} and {CONFIG_FILE}).",
        f"To run it anyway, read {export.model_file}, copy both files to a local folder, and set model.source to it.",
    )
