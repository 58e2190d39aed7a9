"""Refuse and record, with a Python audit hook, what a model does not need in its trial run.

The hook works on every system and says what was tried. Code that looks for it can disarm it, and native code bypasses
it; :mod:`landlock` and :mod:`seccomp` restrict both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from transformer_foundry.core.models.sandbox.readable_paths import is_below

__all__ = ["ATTEMPT", "kernel_report", "watch"]

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

ATTEMPT = "/foundry-attempt/"
"""What the name of a file begins with that reports an attempt; nothing has such a name."""
_LONGEST_REPORT = 1000

_Action = Callable[[tuple[Any, ...]], str | None]
"""Returns what an event of the audit hook means if it is refused, given the arguments of the event."""


def watch(report: Callable[[str], object], readable: Sequence[str], scratch: str) -> None:
    """Refuse from now on what computing does not need, and report each attempt before anything else happens.

    Args:
        report: Takes the end of a sentence "The code ..." for each attempt.
        readable: Files and folders that may be read.
        scratch: Folder that may be written.
    """
    actions = _process_actions() | _file_actions(readable, scratch)

    def refuse(event: str, action: _Action, arguments: tuple[Any, ...]) -> None:
        # The arguments may be objects of the model's code, whose methods may raise: that refuses the event too.
        what: str | None = f"it fails in {event}"
        try:
            what = action(arguments)
        finally:
            if what is not None:
                report(what)
        if what is not None:
            raise PermissionError(f"{what}: not allowed in the trial run of a model")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        action = actions.get(event)
        if action is not None:
            refuse(event, action, arguments)

    sys.addaudithook(hook)
    # subprocess raises an audit event before it calls this function; a direct call raises none.
    starting = sys.modules.get("_posixsubprocess")
    if starting is not None:
        starting.fork_exec = lambda *_: refuse("fork_exec", lambda _: "it starts another program", ())  # type: ignore[attr-defined]


# The functions below bind everything that they use later: the model's code can replace the attributes of modules.


def kernel_report() -> Callable[[str], None]:
    """Return what reports an attempt by a call that the kernel shows to the watching parent, which refuses it.

    Unlike ``os.open``, this call has no audit event, in which a hook of the model's code could stop it.
    """
    make, begin, longest = os.mkfifo, ATTEMPT.encode(), _LONGEST_REPORT

    def report(what: str) -> None:
        try:
            make(begin + what.encode("utf-8", "backslashreplace").replace(b"\0", b"?")[:longest])
        except OSError:  # always
            return

    return report


def _process_actions() -> dict[str, _Action]:
    process = os.getpid()

    def send_signal(arguments: tuple[Any, ...]) -> str | None:
        return None if arguments[0] == process else "it sends a signal to another process"

    return {
        **dict.fromkeys(_NETWORK, lambda _: "it uses the network"),
        **dict.fromkeys(_PROGRAMS, lambda _: "it starts another program"),
        **dict.fromkeys(_NATIVE, lambda _: "it calls native code"),
        **dict.fromkeys(_SIGNALS, send_signal),
    }


def _file_actions(readable: Sequence[str], scratch: str) -> dict[str, _Action]:
    resolve, decode, path_types = os.path.realpath, os.fsdecode, (str, bytes, os.PathLike)
    writing, most_files, is_below_one = _WRITING, _MOST_FILES, is_below
    writable = frozenset((resolve(scratch), "/dev/null"))
    public = writable.union(readable)
    created: set[str] = set()

    def is_within(path: Any, folders: frozenset[str]) -> bool:
        return is_below_one(resolve(decode(path)), folders)

    def count(path: Any) -> str | None:
        created.add(resolve(decode(path)))
        return f"it writes more than {most_files} files" if len(created) > most_files else None

    def read(path: Any) -> str | None:
        return None if is_within(path, public) else f"it reads {decode(path)[:100]}"

    def open_file(arguments: tuple[Any, ...]) -> str | None:
        path, flags = arguments[0], arguments[2]
        if not isinstance(path, path_types):  # a file descriptor
            return None
        if not flags & writing:
            return read(path)
        return count(path) if is_within(path, writable) else f"it writes {decode(path)[:100]}"

    def list_folder(arguments: tuple[Any, ...]) -> str | None:
        is_open = arguments[0] is None or isinstance(arguments[0], int)
        return None if is_open else read(arguments[0])

    def change(*paths: Any) -> str | None:
        for path in paths:
            if not isinstance(path, path_types) or not is_within(path, writable):
                return f"it changes {str(path)[:100]}"
        return None

    def make_folder(arguments: tuple[Any, ...]) -> str | None:
        return change(arguments[0]) or count(arguments[0])

    def import_module(arguments: tuple[Any, ...]) -> str | None:
        return "it calls native code" if arguments[1] and is_within(arguments[1], writable) else None

    return {
        **dict.fromkeys(_LISTS, list_folder),
        **dict.fromkeys(_CHANGES, lambda arguments: change(arguments[0])),
        **dict.fromkeys(_TWO_PATHS, lambda arguments: change(*arguments[:2])),
        "os.mkdir": make_folder,
        "open": open_file,
        "import": import_module,
    }
