"""Python commands in forks of a process that has imported their libraries: five to eight seconds less for each.

``run`` takes the command line of ``subprocess.run`` and returns the same. The forks have their own arguments,
environment, working directory and output, and end as the interpreter ends; only what they import is there already.
Tests of the start of Python itself use ``subprocess``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

PROJECT = Path(__file__).parents[2]

_OURS = "transformer_foundry"
_FIRST = (
    "kedro_datasets.pandas",
    "kedro_datasets.plotly",
    "torch._dynamo",
    "torch._inductor.config",
    "plotly.offline",
)
_OURS_FIRST = (
    "transformer_foundry.cli",
    "kedro.framework.cli",
    "kedro.framework.session",
    "transformer_foundry.core.training",
)
_OF_A_PROJECT = (_OURS, "kedro.framework")
"""What depends on the project: a copy has its own modules, and Kedro reads how to log when it is imported."""

_RUN_AGAIN = ("transformer_foundry.cli", "transformer_foundry.cli.project")
"""What looks at the command line when it is imported."""

_LIBRARIES = (
    *("datasets", "huggingface_hub", "jinja2", "kedro", "kedro_datasets", "matplotlib", "numpy"),
    *("optuna", "pandas", "plotly", "pyarrow", "safetensors", "sqlalchemy", "tokenizers", "torch"),
    "transformers",
)
"""What is imported before the next command, after one has imported it."""

_READ_AT_IMPORT = ("HF_", "HUGGINGFACE_", "KEDRO_", "MPL", "OMP_", "TORCH", "TRANSFORMERS_")
"""Beginnings of variables that libraries read when they are imported: commands with other values start anew."""

_SET_BY_EACH = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_UPDATE_DOWNLOAD_COUNTS",
}
"""What every command of the project sets itself, so also a test that has run one in this process."""

_environment = dict(os.environ)
"""The environment of the server: that of the tests before the first of them runs."""


def remember_environment() -> None:
    """Take the environment of now for that of the server; modules of tests set variables when they are imported."""
    _environment.clear()
    _environment.update(os.environ)


class Command:
    """A command that was started; a subset of ``subprocess.Popen``."""

    def __init__(self, replies: socket.socket) -> None:
        self._replies = replies
        self.pid = self._number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while the command runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the command has ended and return its exit code, negative for a signal."""
        if self.returncode is None:
            if not select.select([self._replies], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked command", timeout or 0)
            self.returncode = self._number()
            self._replies.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the command unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command."""
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        return int.from_bytes(_received(self._replies, 4), "big", signed=True)


def run(
    command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``[sys.executable, "-m", MODULE, ...]`` or ``[sys.executable, "-c", PROGRAM, ...]``; return what it printed.

    Args:
        command: The command line.
        cwd: Its working directory. Only commands of this project itself find its modules imported.
        env: Its environment; that of this process without it.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = start(command, cwd, out, err, env).wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(command), code, out.read(), err.read())


def start(
    command: Sequence[str | Path], cwd: Path, out: IO[str], err: IO[str], env: Mapping[str, str] | None = None
) -> Command | subprocess.Popen[str]:
    """Start a command that prints to files; see ``run``."""
    words, environment = [str(word) for word in command], dict(os.environ if env is None else env)
    assert words[0] == sys.executable
    assert words[1] in ("-m", "-c")
    if _reads_something_else(environment):
        return subprocess.Popen(words, cwd=cwd, env=environment, stdout=out, stderr=err, text=True)
    ours, theirs = socket.socketpair()
    with theirs:
        request = json.dumps([words[1:], str(cwd), environment]).encode()
        control = _server(is_ours=cwd == PROJECT)
        fds = [theirs.fileno(), out.fileno(), err.fileno()]
        socket.send_fds(control, [len(request).to_bytes(4, "big")], fds)
        control.sendall(request)
    return Command(ours)


@contextlib.contextmanager
def verifications_forked() -> Iterator[None]:
    """Let exported files be verified in forks of the server, which has seen no model either, in the body."""
    from transformer_foundry.core.export import verify_file

    def popen(command: Sequence[str], *, stderr: IO[str], env: Mapping[str, str], **_: Any) -> Any:
        with open(os.devnull, "w") as nowhere:
            return start(command, PROJECT, nowhere, stderr, env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_file, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": popen}))
        yield


def _reads_something_else(environment: Mapping[str, str]) -> bool:
    names = {name for name in {*environment, *_environment} if name.startswith(_READ_AT_IMPORT)} - _SET_BY_EACH
    return any(environment.get(name) != _server_environment().get(name) for name in names)


def _server_environment() -> dict[str, str]:
    return _environment | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@functools.cache
def _server(is_ours: bool) -> socket.socket:
    """Start the server, and end it with this process."""
    ours, theirs = socket.socketpair()
    folder = tempfile.mkdtemp(prefix="foundry-forks-")
    command = [sys.executable, "-m", __name__, str(theirs.fileno()), f"{folder}/imported"]
    command += _OURS_FIRST if is_ours else ()
    process = subprocess.Popen(command, cwd=PROJECT, env=_server_environment(), pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return ours


def _received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError("the process that forks the commands has ended")
        data += part
    return data


# Everything below runs in the server and its forks.


def main(control_fd: str, imported: str, *ours: str) -> None:
    """Fork for each request until the tests have ended; return in the fork, as the command."""
    before, wanted = dict(os.environ), Path(imported)
    _import([*ours, *_FIRST])
    control = socket.socket(fileno=int(control_fd))
    while True:
        data, fds, *_ = socket.recv_fds(control, 4, 3)
        if not data:
            return
        request = json.loads(_received(control, int.from_bytes(data, "big")))
        if wanted.is_file():
            _import([name for name in wanted.read_text().split() if ours or not name.startswith(_OF_A_PROJECT)])
        for name in _RUN_AGAIN:
            sys.modules.pop(name, None)
        gc.freeze()
        if os.fork() == 0:
            control.close()
            _wait_for_fork(fds)
            set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
            _be_the_command(*request, set_by_imports, wanted)
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _import(names: Sequence[str]) -> None:
    # onnxruntime starts a thread when it is imported, for which a fork would wait at its end.
    sys.modules["onnxruntime"] = None  # type: ignore[assignment]
    for name in names:
        if name.partition(".")[0] in (*_LIBRARIES, _OURS) and name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    del sys.modules["onnxruntime"]


def _wait_for_fork(fds: list[int]) -> None:
    """Fork, and report number and exit code of the fork; return in the fork, with its output redirected."""
    replies = socket.socket(fileno=fds[0])
    command = os.fork()
    if command:
        for fd in fds[1:]:
            os.close(fd)
        replies.sendall(command.to_bytes(4, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        with contextlib.suppress(OSError):  # nobody waits for it any more
            replies.sendall(code.to_bytes(4, "big", signed=True))
        os._exit(0)
    replies.close()
    for number, fd in enumerate(fds[1:], start=1):
        os.dup2(fd, number)
        os.close(fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _be_the_command(
    words: list[str], cwd: str, environment: dict[str, str], set_by_imports: dict[str, str], imported: Path
) -> None:
    atexit.register(lambda: imported.write_text("\n".join(set(sys.modules) - {"__main__"})))
    os.environ.clear()
    os.environ.update(set_by_imports | environment)
    os.chdir(cwd)
    option, what, *arguments = words
    sys.path[0] = cwd if option == "-m" else ""
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.argv = [what if option == "-m" else "-c", *arguments]
    if option == "-m":
        if what in sys.modules and not hasattr(sys.modules[what], "__path__"):
            del sys.modules[what]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        program: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(compile(what, "<string>", "exec"), program)
    sys.exit()


if __name__ == "__main__":
    main(*sys.argv[1:])
