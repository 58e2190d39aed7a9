"""The first import, construction and call of a model, in a process of its own with limits and without secrets.

What goes wrong there only ends that process. Errors of the model's code are not judged here: those limits are for code
that would take the machine with it, or that reaches out of it. A run that ended well is remembered by the digest.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.source.cache import CONFIG_FILE, MODEL_FILE, default_cache
from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["TRIAL_RUN_SECONDS", "require_trial_run"]

TRIAL_RUN_SECONDS = 120.0
"""Default limit of wall and CPU time; the largest model that fits a free Colab session takes a third of it."""

_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PROGRAM = (
    "import json, sys; job = json.load(sys.stdin); sys.path[:] = job['sys_path']; "
    "from transformer_foundry.core.models.sandbox.trial_process import main; main(job)"
)


def require_trial_run(
    export: ModelSource, *, seconds: float = TRIAL_RUN_SECONDS, cache_dir: Path | None = None
) -> None:
    """Import, build and call the model of ``export`` once in a process of its own, unless that was done before.

    Args:
        export: The export.
        seconds: Limit of wall time and of CPU time.
        cache_dir: Where it is remembered; the user's cache when None.

    Raises:
        ModelError: If it ran out of time or memory, ended its process, or (code from outside) reached for the network,
            other programs, or files that are not its own.
    """
    remembered = (cache_dir or default_cache()) / "first_runs" / f"{export.identity}-{_versions()}.json"
    if _is_remembered(remembered, export):
        return
    result = _run(export, seconds)
    if result.get("refused"):
        raise ModelError(*result["refused"])
    if result.get("reached") and not export.is_local:
        raise _reached_out(export, result["reached"])
    _remember(remembered, result)


def _versions() -> str:
    try:
        return f"torch-{importlib.metadata.version('torch')}"
    except importlib.metadata.PackageNotFoundError:
        return "torch"


def _is_remembered(path: Path, export: ModelSource) -> bool:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return export.is_local or not result["reached"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remember(path: Path, result: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(result), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None


def _run(export: ModelSource, seconds: float) -> dict[str, Any]:
    with _scratch_folder() as scratch, tempfile.TemporaryFile() as answer:
        job = {
            "sys_path": _import_paths(export.is_local),
            "folder": str(export.folder.resolve()),
            "source": export.source,
            "model_code": export.model_code,
            "config": export.config,
            "sha256": dict(export.sha256),
            "seconds": seconds,
            "scratch": scratch,
        }
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        # No graphics card, no home (tokens lie there), no thread of its own: nothing but computing.
        environment = kept | {"HOME": scratch, "TMPDIR": scratch, "CUDA_VISIBLE_DEVICES": ""}
        environment["TORCHDYNAMO_DISABLE"] = "1"  # torch.compile would start a compiler, for the same result
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _PROGRAM], cwd=scratch, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=answer, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        is_late = False
        try:
            process.communicate(json.dumps(job).encode(), timeout=seconds + _STARTING_SECONDS)
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            _end(process)
        answer.seek(0)
        return _result(answer.read(), process.returncode, is_late, seconds)


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    """A folder that is removed afterwards, as far as its content lets itself be removed."""
    folder = tempfile.mkdtemp(prefix="foundry-first-run-")
    try:
        yield folder
    finally:
        # Folders in folders, thousands deep, are more than Python's own functions go down.
        with contextlib.suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)


def _import_paths(is_local: bool) -> list[str]:
    """Where the process imports from, and so what it may read: of the user's own folders nothing for foreign code."""
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


_STARTING_SECONDS = 30.0
"""Starting Python and importing torch on a cold disk; the limit of the model's own time is watched in the child."""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with everything that it has started."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.poll()
    else:
        process.kill()
    process.wait()


def _result(answer: bytes, code: int, is_late: bool, seconds: float) -> dict[str, Any]:
    result = _read_answer(answer)
    if result is not None and not is_late:
        return result
    late = (-getattr(signal, "SIGXCPU", 24), -signal.SIGALRM if hasattr(signal, "SIGALRM") else None)
    if is_late or code in late:
        what = f"The model was not built and called within {seconds:g} seconds: model.py may loop without an end."
        remedy = "Correct model.py, or raise model.first_run_seconds if the model is that large or the machine slow."
    elif code < 0:
        what = (
            f"The process in which model.py was tried was ended by signal {-code}: it took too much memory or crashed."
        )
        remedy = "Make the sizes in config.json smaller, or correct what model.py does when it is imported."
    else:
        what = f"model.py ended the process in which it was tried (exit status {code})."
        remedy = "Remove what ends the process there (os._exit, quit), or export the model again."
    return {"refused": [what, "Expected the model to be imported, built and called within its limits.", remedy]}


def _read_answer(answer: bytes) -> dict[str, Any] | None:
    """Return what the process says, None if that is not how it speaks: it was ended before, or the model's code spoke.

    Whatever else stands there is not to be relied on: the model's code can write there too.
    """
    try:
        result = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    lists = [result.get(name, []) for name in ("refused", "reached")] if isinstance(result, dict) else [None]
    are_texts = all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists)
    return result if are_texts and len(lists[0] or []) in (0, 3) else None


def _reached_out(export: ModelSource, reached: list[str]) -> ModelError:
    shown = "; ".join(reached[:3])
    return ModelError(
        f"The code of '{export.source}' does more than computing when it is imported, built or called: {shown}.",
        f"Expected code from outside to touch neither network, programs nor files ({MODEL_FILE}, {CONFIG_FILE} aside).",
        f"If you have read {export.model_file} and want that, copy both files to a folder of yours: own folders may.",
    )
