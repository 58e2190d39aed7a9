"""Refuse this process permanently the system calls that computing does not need: a seccomp filter, without root.

Refused are sockets, other programs and processes, signals to other processes and access to their memory, and the
administration of the machine. Computing, threads and files still work. See https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

__all__ = ["restrict_calls"]

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
# The kernel's number of each architecture, and the numbers of its system calls (asm/unistd.h).
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    # socket, connect, execve, execveat, fork, vfork, ptrace, process_vm_readv, process_vm_writev, System V shared
    # memory, queues and semaphores, message queues, keys, administration
    "x86_64": (
        41, 42, 59, 322, 57, 58, 101, 310, 311, 29, 68, 64, 240, 248, 249, 250,
        165, 166, 155, 161, 272, 308, 304, 312, 175, 313, 246, 169, 133, 259, 227, 164, 170, 172, 173, 103, 163, 167,
    ),
    "aarch64": (
        198, 203, 221, 281, 117, 270, 271, 194, 186, 190, 180, 217, 218, 219,
        40, 39, 41, 51, 97, 268, 265, 272, 105, 273, 104, 142, 33, 112, 170, 161, 116, 89, 224,
    ),
}  # fmt: skip
# pidfd_open, pidfd_getfd, pidfd_send_signal, io_uring_setup, open_tree, move_mount, fsopen: the same everywhere.
_REFUSED_EVERYWHERE = (434, 438, 424, 425, 428, 429, 430)
_REFUSED_MORE = {
    "x86_64": (321, 298, 323, 129, 297, 141, 142, 144, 314, 251, 256, 279),
    "aarch64": (280, 241, 282, 138, 240, 140, 118, 119, 274, 30, 238, 239),
}
"""bpf, perf_event_open, userfaultfd, rt_sigqueueinfo, rt_tgsigqueueinfo; priority and memory placement:
setpriority, sched_setparam, sched_setscheduler, sched_setattr, ioprio_set, migrate_pages, move_pages"""
_TO_ITSELF = {"x86_64": (62, 200, 234), "aarch64": (129, 130, 131)}
"""kill, tkill, tgkill: allowed on the process itself"""
_ON_ITSELF = {"x86_64": (302, 203), "aarch64": (261, 122)}
"""prlimit64, sched_setaffinity: allowed on the process itself, which is also 0"""
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_THREAD = 0x10000
_NOT_PERMITTED, _NO_SUCH_CALL = 1, 38

# Instructions of the filter: load a word, compare, test bits, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_OTHER_TABLE = 0x40000000  # x32 calls of x86_64 have other numbers


def restrict_calls() -> bool:
    """Refuse the calls from now on, for this process and its future threads.

    Returns:
        Whether the system supports it; if not, nothing has changed.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _program(machine, os.getpid()))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    system = ctypes.CDLL(None, use_errno=True)
    filled = Program(len(program) // 8, program)
    if system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    failed: int = system.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(filled), 0, 0)
    return failed == 0


def _program(machine: str, process: int) -> list[tuple[int, int, int, int]]:
    """Return (code, instructions to skip if true, if false, value) of each instruction."""
    refuse = (_RETURN, 0, 0, _ERROR | _NOT_PERMITTED)
    allow = (_RETURN, 0, 0, _ALLOW)
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        refuse,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _OTHER_TABLE),
        refuse,
    ]
    for number in (*_REFUSED[machine], *_REFUSED_MORE[machine], *_REFUSED_EVERYWHERE):
        lines += [(_EQUAL, 0, 1, number), refuse]
    # Pretend that clone3 does not exist: a filter cannot read its flags in memory. The caller then uses clone.
    lines += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | _NO_SUCH_CALL)]
    first = (_LOAD, 0, 0, _FIRST_ARGUMENT_AT)
    lines += [(_EQUAL, 0, 4, _CLONE[machine]), first, (_ANY_BIT, 1, 0, _THREAD), refuse, allow]
    for number in _TO_ITSELF[machine]:
        lines += [(_EQUAL, 0, 4, number), first, (_EQUAL, 1, 0, process), refuse, allow]
    for number in _ON_ITSELF[machine]:
        lines += [(_EQUAL, 0, 5, number), first, (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, process), refuse, allow]
    return [*lines, allow]
