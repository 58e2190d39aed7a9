"""Note and refuse what a model has no need of in its first run: an audit hook of Python.

It cannot be taken away, works on every system and says what was tried. Native code goes past it: :mod:`landlock` and
:mod:`seccomp` are for that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["readable_paths", "watch"]

_PROGRAMS = frozenset((
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
))  # fmt: skip
_NETWORK = frozenset((
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
))  # fmt: skip
_SIGNALS = frozenset(("os.kill", "os.killpg"))
_NATIVE = frozenset(("ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle", "ctypes.call_function"))
_LISTS = frozenset(("os.listdir", "os.scandir", "os.chdir", "os.fchdir"))
_CHANGES = frozenset((
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "os.utime", "os.setxattr", "os.removexattr", "shutil.rmtree", "sqlite3.connect",
))  # fmt: skip
_TWO_PATHS = frozenset(("os.rename", "os.link", "os.symlink"))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_MOST_FILES = 64
"""Files and folders that may be made, each file of at most a mebibyte."""

# What Python and its libraries read of a system, besides what is installed for them. Not the whole of /proc: other
# processes' command lines and environments are there.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/lib32", "/etc", "/sys", "/nix/store", "/dev/null", "/dev/zero", "/dev/random",
    "/dev/urandom", "/proc/cpuinfo", "/proc/filesystems", "/proc/meminfo", "/proc/stat", "/proc/sys", "/proc/version",
    "/System", "/Library",
)  # fmt: skip


def readable_paths(*own: str) -> tuple[str, ...]:
    """Return what a model's process may read: Python, its libraries, the system's files for all, and ``own``."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    python = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.executable, *sys.path)
    found = {os.path.realpath(path) for path in (*_SYSTEM, *python, *libraries, *own) if path}
    # A path of "/" would allow everything; the process's own part of /proc has its number.
    return (*sorted(found - {"/"}), f"/proc/{os.getpid()}")


def watch(reached: list[str], readable: Sequence[str], scratch: str) -> None:
    """Refuse from now on what computing has no need of, and add what was tried to ``reached``.

    Args:
        reached: Receives the end of a sentence "The code ..." for each.
        readable: Files and folders that may be read.
        scratch: Folder that may be written.
    """
    # Bound here: what the modules are called by can be replaced by whoever wants to get past.
    real, decode, process = os.path.realpath, os.fsdecode, os.getpid()
    network, programs, signals, native = _NETWORK, _PROGRAMS, _SIGNALS, _NATIVE
    lists, changes, two_paths, writing = _LISTS, _CHANGES, _TWO_PATHS, _WRITING
    written: set[str] = set()
    writable = (real(scratch), "/dev/null")

    def refuse(what: str) -> None:
        reached.append(what)
        raise PermissionError(f"{what}: not in a model's first run")

    def within(path: Any, folders: Sequence[str]) -> bool:
        place = real(decode(path))
        return any(place == folder or place.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)

    def judge_change(paths: Sequence[Any]) -> None:
        for path in paths:
            if not isinstance(path, str | bytes | os.PathLike) or not within(path, writable):
                refuse(f"it changes {str(path)[:100]}")

    def count(path: str) -> None:
        written.add(path)
        if len(written) > _MOST_FILES:
            refuse(f"it writes more than {_MOST_FILES} files")

    def judge_open(path: Any, flags: int) -> None:
        if flags & writing:
            if not within(path, writable):
                refuse(f"it writes {decode(path)[:100]}")
            count(real(decode(path)))
        elif not within(path, (*readable, *writable)):
            refuse(f"it reads {decode(path)[:100]}")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(arguments[0], str | bytes | os.PathLike):
                judge_open(arguments[0], arguments[2])
        elif event in lists:
            if arguments[0] is not None and not isinstance(arguments[0], int):
                judge_open(arguments[0], 0)
        elif event in changes:
            judge_change(arguments[: 2 if event in two_paths else 1])
            if event == "os.mkdir":
                count(real(decode(arguments[0])))
        elif event in network:
            refuse("it uses the network")
        elif event in programs:
            refuse("it starts another program")
        elif event in signals and arguments[0] != process:
            refuse("it sends a signal to another process")
        elif event in native or (event == "import" and arguments[1] and within(arguments[1], writable)):
            refuse("it calls native code")

    sys.addaudithook(hook)
    # What subprocess calls after it has told the hook; called by itself it tells nobody.
    starting = sys.modules.get("_posixsubprocess")
    if starting is not None:
        starting.fork_exec = lambda *_: refuse("it starts another program")  # type: ignore[attr-defined]
