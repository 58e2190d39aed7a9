"""Refuse and record, with a Python audit hook, what a model does not need in its trial run.

The hook cannot be removed, works on every system and reports what was tried. Native code can bypass it; :mod:`landlock`
and :mod:`seccomp` restrict that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["private_folders", "readable_paths", "watch"]

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

_CONFIGURATION = "/etc"
"""Has files for root alone, such as password hashes and keys of the machine: code that runs as root could read them."""


def private_folders() -> list[str]:
    """Return folders of the user that external code never reads as a whole: working directory, project and home."""
    here = os.path.realpath(os.getcwd())
    parents = [here]
    while os.path.dirname(parents[-1]) != parents[-1]:
        parents.append(os.path.dirname(parents[-1]))
    projects = [place for place in parents if os.path.exists(os.path.join(place, "pyproject.toml"))]
    return [here, *projects, os.path.realpath(os.path.expanduser("~"))]


def readable_paths(*own: str, private: Sequence[str] = ()) -> list[str]:
    """Return what the process of a model may read: Python, its libraries, public system files, and ``own``.

    What is for root or a group alone is no public file, whoever runs this.

    Of ``/proc`` only what describes the machine: ``/proc/self`` has the memory map and the open files of the process.

    Args:
        own: Files and folders that belong to the model or are imported from, with all that is in them.
        private: Folders of the user: a project may be below ``/usr``, or be itself an environment of Python. A system
            folder that contains one is replaced by what else is in it; any other is left out.
    """
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    inside = [os.path.join(prefix, name) for prefix in prefixes for name in ("lib", "lib64", "bin", "Lib", "DLLs")]
    system = {os.path.realpath(path) for path in _SYSTEM}
    # A working directory such as / or /usr is no project.
    walls = [place for place in private if not any(_contains(place, path) for path in system)]
    walls += _not_for_others(os.path.realpath(_CONFIGURATION))
    found = {os.path.realpath(path) for path in own if path}
    for path in system:
        found |= _without(path, walls)
    for path in (*prefixes, *inside, *libraries, sys.executable):
        place = os.path.realpath(path)
        if path and not any(_contains(place, wall) for wall in walls):
            found.add(place)
    return sorted(found - {"/"})  # "/" would allow everything


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _without(path: str, walls: Sequence[str]) -> set[str]:
    """Return ``path``, or what is in it besides ``walls``."""
    if any(_contains(wall, path) for wall in walls):
        return set()
    if not any(_contains(path, wall) for wall in walls):
        return {path}
    children = {os.path.realpath(entry.path) for entry in os.scandir(path)}
    # A link may lead back to a folder above, or elsewhere, for example into /proc.
    inside = [child for child in children if child != path and _contains(path, child)]
    return {found for child in inside for found in _without(child, walls)}


def _not_for_others(folder: str) -> list[str]:
    """Return the files and folders in ``folder`` that not every user of the machine may read."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        for names, needed in ((folders, 0o5), (files, 0o4)):
            for name in list(names):
                path = os.path.join(place, name)
                try:
                    is_public = os.path.islink(path) or os.lstat(path).st_mode & needed == needed
                except OSError:  # removed meanwhile
                    continue
                if not is_public:
                    found.append(path)
                    names.remove(name)
    return found


def watch(report: Callable[[str], object], readable: Sequence[str], scratch: str) -> None:
    """Refuse from now on what computing does not need, and report each attempt before anything else happens.

    Args:
        report: Takes the end of a sentence "The code ..." for each attempt.
        readable: Files and folders that may be read.
        scratch: Folder that may be written.
    """

    def refuse(what: str) -> NoReturn:
        report(what)
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
