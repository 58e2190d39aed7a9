"""What the process of a trial run may read: Python, its libraries, and files of the system for every user."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence

__all__ = ["is_below", "is_for_everyone", "private_folders", "readable_paths", "system_paths"]

# System files that Python and its libraries read. Of /proc and /sys only what describes processors, memory and limits:
# they also have the command lines and environments of other processes, and addresses and keys of the kernel.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/lib32", "/etc", "/nix/store", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
    "/proc/cpuinfo", "/proc/filesystems", "/proc/meminfo", "/proc/stat", "/proc/version",
    "/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/cap_last_cap", "/proc/sys/kernel/ngroups_max",
    "/proc/sys/kernel/osrelease", "/proc/sys/kernel/ostype", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max",
    "/proc/sys/kernel/version",
    "/proc/sys/vm/max_map_count", "/proc/sys/vm/nr_hugepages", "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup", "/sys/kernel/mm/hugepages",
    "/sys/kernel/mm/transparent_hugepage", "/System", "/Library",
)  # fmt: skip

_SEARCHED = {"/etc": 64, "/usr/etc": 64, "/usr/local": 2, "/usr/share": 2}
"""Folder -> how deep it is searched for files that are not for everyone, such as password hashes and private keys.

A search of all of /usr costs as much as a trial run; what it would find, the watching parent refuses.
"""
_PYTHON = ("bin", "lib", "lib32", "lib64", "include", "share/zoneinfo", "pyvenv.cfg", "Lib", "DLLs", "Library")
"""What programs need of an environment of Python. Its settings may hold passwords (pip.conf, conda-meta)."""


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

    What is for root or a group alone is no public file, whoever runs this: see also ``is_for_everyone``.

    Of ``/proc`` only what describes the machine: ``/proc/self`` has the memory map and the open files of the process.

    Args:
        own: Files and folders that belong to the model or are imported from, with all that is in them.
        private: Folders of the user: a project may be below ``/usr``, or be itself an environment of Python. A system
            folder that contains one is replaced by what else is in it; any other is left out.
    """
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    inside = [os.path.join(prefix, name) for prefix in prefixes for name in _PYTHON]
    system = system_paths()
    # A working directory such as / or /usr is no project.
    walls = [place for place in private if not any(_contains(place, path) for path in system)]
    walls += [path for folder, depth in _SEARCHED.items() for path in _not_for_others(os.path.realpath(folder), depth)]
    found = {os.path.realpath(path) for path in own if path}
    for path in system:
        found |= _without(path, walls)
    for path in (*inside, *libraries, sys.executable):
        place = os.path.realpath(path)
        if path and not any(_contains(place, wall) for wall in walls):
            found.add(place)
    return sorted(found - {"/"})  # "/" would allow everything


def system_paths() -> set[str]:
    """Return the files and folders of the system of which a model may read what is for everyone."""
    return {os.path.realpath(path) for path in _SYSTEM}


def is_below(place: str, folders: frozenset[str]) -> bool:
    """Return whether an absolute path is one of ``folders`` or in one, in a time that does not depend on their number.

    Example:
        >>> is_below("/a/b/c", frozenset(["/a/b"])), is_below("/a/bc", frozenset(["/a/b"]))
        (True, False)
    """
    while place not in folders:
        place, _, name = place.rpartition(os.sep)
        if not name:
            return False
    return True


def is_for_everyone(path: str, system: frozenset[str]) -> bool:
    """Return whether every user of the machine may read a file or folder in one of ``system``, if it exists."""
    try:
        mode = os.stat(path).st_mode
        needed = 0o5 if stat.S_ISDIR(mode) else 0o4
        while mode & needed == needed and path not in system:
            path, needed = os.path.dirname(path), 0o1
            mode = os.stat(path).st_mode
        return mode & needed == needed
    except OSError:  # there is nothing to read
        return True


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


def _not_for_others(folder: str, depth: int) -> list[str]:
    """Return the files and folders in ``folder``, and so many folders below it, that not every user may read."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        is_deepest = place.count(os.sep) - folder.count(os.sep) >= depth - 1
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
        if is_deepest:
            folders.clear()
    return found
