"""Restrict this process permanently to files in given folders: Landlock of Linux 5.13, which needs no root.

Landlock also prevents reading the memory and the environment of other processes and, from Linux 6.12, sending them
signals. See https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

__all__ = ["restrict_files"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
# Rights that each version of Landlock has: 13 at first, then also moving, truncating and device control.
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_RIGHTS = 16
_TCP_VERSION, _TCP = 4, 0b11
_SCOPED_VERSION, _SCOPED = 6, 0b11  # abstract Unix sockets and signals


def restrict_files(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Let this process and its future threads read only below ``readable``, and write only below ``writable``.

    No program can be started any more. Paths that do not exist are skipped.

    Args:
        readable: Files and folders.
        writable: Files and folders that may be read and written.

    Returns:
        Whether the system supports it; if not, nothing has changed.
    """
    system = ctypes.CDLL(None, use_errno=True)
    version = system.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    if version < 1 or system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    rights = (1 << _RIGHTS_BY_VERSION.get(version, _ALL_RIGHTS)) - 1
    fields = [rights, _TCP if version >= _TCP_VERSION else 0, _SCOPED if version >= _SCOPED_VERSION else 0]
    known = 1 if version < _TCP_VERSION else 2 if version < _SCOPED_VERSION else 3
    attributes = struct.pack(f"{known}Q", *fields[:known])
    rules = system.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if rules < 0:
        return False
    read = _READ_FILE | _READ_DIR
    write = read | _WRITE_FILE | _TRUNCATE | _MAKE_FILE | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR
    for paths, allowed in ((readable, read), (writable, write)):
        for path in paths:
            _allow(system, rules, path, allowed & rights)
    restricted: int = system.syscall(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
    return restricted == 0


def _allow(system: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it does not exist
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE
    rule = struct.pack("=Qi", rights, place)
    system.syscall(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    os.close(place)
