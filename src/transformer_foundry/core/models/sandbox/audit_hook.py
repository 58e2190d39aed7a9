"""Refuse and record, with a Python audit hook, what a model does not need in its trial run.

The hook cannot be removed, works on every system and reports what was tried. Native code can bypass it; :mod:`landlock`
and :mod:`seccomp` restrict that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

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
"""Files and folders that may be created, each file of at most one mebibyte."""

_Action = Callable[[tuple[Any, ...]], None]
"""What an event of the audit hook leads to, given the arguments of the event."""

# System files that Python and its libraries read. Not all of /proc: it has the command lines and environments of other
# processes.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/lib32", "/etc", "/sys", "/nix/store", "/dev/null", "/dev/zero", "/dev/random",
    "/dev/urandom", "/proc/cpuinfo", "/proc/filesystems", "/proc/meminfo", "/proc/stat", "/proc/sys", "/proc/version",
    "/System", "/Library",
)  # fmt: skip


def readable_paths(*own: str) -> tuple[str, ...]:
    """Return what the process of a model may read: Python, its libraries, public system files, and ``own``."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    python = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.executable, *sys.path)
    found = {os.path.realpath(path) for path in (*_SYSTEM, *python, *libraries, *own) if path}
    # "/" would allow everything. Of /proc, only the part of this process is readable.
    return (*sorted(found - {"/"}), f"/proc/{os.getpid()}")


def watch(reached: list[str], readable: Sequence[str], scratch: str) -> None:
    """Refuse from now on what computing does not need, and add each attempt to ``reached``.

    Args:
        reached: Receives the end of a sentence "The code ..." for each attempt.
        readable: Files and folders that may be read.
        scratch: Folder that may be written.
    """

    def refuse(what: str) -> NoReturn:
        reached.append(what)
        raise PermissionError(f"{what}: not allowed in the trial run of a model")

    actions = _process_actions(refuse) | _file_actions(refuse, readable, scratch)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        action = actions.get(event)
        if action is not None:
            action(arguments)

    sys.addaudithook(hook)
    # subprocess raises an audit event before it calls this function; a direct call raises none.
    starting = sys.modules.get("_posixsubprocess")
    if starting is not None:
        starting.fork_exec = lambda *_: refuse("it starts another program")  # type: ignore[attr-defined]


# The functions below bind everything that they use later: the model's code can replace the attributes of modules.


def _process_actions(refuse: Callable[[str], NoReturn]) -> dict[str, _Action]:
    process = os.getpid()

    def send_signal(arguments: tuple[Any, ...]) -> None:
        if arguments[0] != process:
            refuse("it sends a signal to another process")

    return {
        **dict.fromkeys(_NETWORK, lambda _: refuse("it uses the network")),
        **dict.fromkeys(_PROGRAMS, lambda _: refuse("it starts another program")),
        **dict.fromkeys(_NATIVE, lambda _: refuse("it calls native code")),
        **dict.fromkeys(_SIGNALS, send_signal),
    }


def _file_actions(refuse: Callable[[str], NoReturn], readable: Sequence[str], scratch: str) -> dict[str, _Action]:
    resolve, decode, separator, path_types = os.path.realpath, os.fsdecode, os.sep, (str, bytes, os.PathLike)
    writing, most_files = _WRITING, _MOST_FILES
    writable = (resolve(scratch), "/dev/null")
    created: set[str] = set()

    def is_within(path: Any, folders: Sequence[str]) -> bool:
        place = resolve(decode(path))
        return any(place == folder or place.startswith(folder.rstrip(separator) + separator) for folder in folders)

    def count(path: Any) -> None:
        created.add(resolve(decode(path)))
        if len(created) > most_files:
            refuse(f"it writes more than {most_files} files")

    def read(path: Any) -> None:
        if not is_within(path, (*readable, *writable)):
            refuse(f"it reads {decode(path)[:100]}")

    def open_file(arguments: tuple[Any, ...]) -> None:
        path, flags = arguments[0], arguments[2]
        if not isinstance(path, path_types):  # a file descriptor
            return
        if not flags & writing:
            read(path)
            return
        if not is_within(path, writable):
            refuse(f"it writes {decode(path)[:100]}")
        count(path)

    def list_folder(arguments: tuple[Any, ...]) -> None:
        if arguments[0] is not None and not isinstance(arguments[0], int):
            read(arguments[0])

    def change(*paths: Any) -> None:
        for path in paths:
            if not isinstance(path, path_types) or not is_within(path, writable):
                refuse(f"it changes {str(path)[:100]}")

    def make_folder(arguments: tuple[Any, ...]) -> None:
        change(arguments[0])
        count(arguments[0])

    def import_module(arguments: tuple[Any, ...]) -> None:
        if arguments[1] and is_within(arguments[1], writable):
            refuse("it calls native code")

    return {
        **dict.fromkeys(_LISTS, list_folder),
        **dict.fromkeys(_CHANGES, lambda arguments: change(arguments[0])),
        **dict.fromkeys(_TWO_PATHS, lambda arguments: change(*arguments[:2])),
        "os.mkdir": make_folder,
        "open": open_file,
        "import": import_module,
    }
