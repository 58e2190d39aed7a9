"""Allow this process permanently only the system calls that computing needs: a seccomp filter, without root.

Every other call waits until the process that holds the listener (``watcher``) has refused it, so that what the code
tries is known outside; without a listener (Linux before 5.5) it fails at once. See
https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable, Iterable

from transformer_foundry.core.models.sandbox.system_calls import (
    ALLOWED,
    ARCHITECTURES,
    FOLDER_CALLS,
    number_of,
)

__all__ = ["restrict_calls"]

_NO_NEW_PRIVILEGES = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER = 1, 8
_THREAD = 0x10000
_NOT_PERMITTED, _NO_SUCH_CALL = 1, 38

# Instructions of the filter: load a word, compare, test bits, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24
_ALLOW, _ERROR, _NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
_OTHER_TABLE = 0x40000000  # x32 calls of x86_64 have other numbers

# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX: what opening a file asks. Others put text into a terminal.
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5451)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, locks, F_DUPFD_CLOEXEC; others send signals or lease files.
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)
# PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA
_PRCTL = (15, 16, 3, 0x53564D41)
_SECOND_ARGUMENT = {"ioctl": _IOCTL, "fcntl": _FCNTL}
_ON_ITSELF = ("kill", "tgkill", "prlimit64", "sched_setaffinity")
"""Allowed on the process itself; of the last two that is also 0."""
_NEW_DESCRIPTOR_AT = {"close": _FIRST_AT, "dup2": _SECOND_AT, "dup3": _SECOND_AT}
"""Call -> the place of the descriptor that it closes or replaces."""

Instruction = tuple[int, int, int, int]
_REFUSE_NOW: Instruction = (_RETURN, 0, 0, _ERROR | _NOT_PERMITTED)
_ALLOWED: Instruction = (_RETURN, 0, 0, _ALLOW)


def restrict_calls(send_listener: Callable[[int], None] | None = None, *, channel: int | None = None) -> bool:
    """Refuse all other calls from now on, for this thread and those that it starts.

    Args:
        send_listener: Gives the listener to the process that watches. Runs in a thread without the filter, which ends.
        channel: A descriptor that may not be closed or replaced.

    Returns:
        Whether the system supports it; if not, nothing has changed.
    """
    machine = platform.machine()
    system = ctypes.CDLL(None, use_errno=True)
    if machine not in ARCHITECTURES or system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    if send_listener is not None:
        program = filter_program(machine, os.getpid(), channel=channel, is_watched=True)
        if _install_watched(system, machine, program, send_listener):
            return True
    # Nothing outside decides about folders: computing still needs them.
    return _install(system, machine, filter_program(machine, os.getpid(), FOLDER_CALLS, channel=channel), 0) == 0


def _install_watched(
    system: ctypes.CDLL, machine: str, program: list[Instruction], send_listener: Callable[[int], None]
) -> bool:
    listeners: list[int] = []
    is_installed = threading.Event()

    def send() -> None:
        is_installed.wait()
        if listeners[0] >= 0:
            send_listener(listeners[0])

    # This thread exists before the filter: sending a descriptor is a call that the filter refuses.
    sender = threading.Thread(target=send)
    sender.start()
    listeners.append(_install(system, machine, program, _NEW_LISTENER))
    is_installed.set()
    sender.join()
    if listeners[0] < 0:
        return False
    os.close(listeners[0])  # the code could answer its own questions with it
    return True


def _install(system: ctypes.CDLL, machine: str, program: list[Instruction], flags: int) -> int:
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in program)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    filled = Program(len(packed) // 8, packed)
    number, operation = ctypes.c_long(_SECCOMP[machine]), ctypes.c_uint(_SET_FILTER)
    return int(system.syscall(number, operation, ctypes.c_uint(flags), ctypes.byref(filled)))


def filter_program(
    machine: str,
    process: int,
    folder_calls: Iterable[str] = (),
    *,
    channel: int | None = None,
    is_watched: bool = False,
) -> list[Instruction]:
    """Return (code, instructions to skip if true, if false, value) of each instruction.

    Args:
        machine: x86_64 or aarch64.
        process: The process that is restricted.
        folder_calls: Names of calls that are also allowed.
        channel: A descriptor that stays open and what it is.
        is_watched: Whether a refused call is reported to a listener, and opening a file too.
    """
    other: Instruction = (_RETURN, 0, 0, _NOTIFY) if is_watched else _REFUSE_NOW
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, ARCHITECTURES[machine]),
        _REFUSE_NOW,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _OTHER_TABLE),
        _REFUSE_NOW,
    ]
    opening = () if is_watched else ("open", "openat", "creat")
    closing = (*_NEW_DESCRIPTOR_AT, "close_range") if channel is None else ()
    for name in (*ALLOWED, *folder_calls, *opening, *closing):
        if (number := number_of(name, machine)) is not None:
            lines += [(_EQUAL, 0, 1, number), _ALLOWED]
    # Pretend that these do not exist: a filter cannot read their arguments in memory. The caller then uses others.
    for name in ("clone3", "openat2"):
        lines += [(_EQUAL, 0, 1, _known(name, machine)), (_RETURN, 0, 0, _ERROR | _NO_SUCH_CALL)]
    first, second = (_LOAD, 0, 0, _FIRST_AT), (_LOAD, 0, 0, _SECOND_AT)
    lines += [(_EQUAL, 0, 4, _known("clone", machine)), first, (_ANY_BIT, 0, 1, _THREAD), _ALLOWED, other]
    for name, values in _SECOND_ARGUMENT.items():
        lines += _only(_known(name, machine), second, values)
    lines += _only(_known("prctl", machine), first, _PRCTL)
    for name in _ON_ITSELF:
        itself = (process,) if name in ("kill", "tgkill") else (0, process)
        lines += _only(_known(name, machine), first, itself, other)
    if channel is not None:
        lines += _keep_open(machine, channel, other)
    return [*lines, other]


def _keep_open(machine: str, channel: int, other: Instruction) -> list[Instruction]:
    """Return instructions that allow to close and replace any descriptor but ``channel``."""
    lines: list[Instruction] = []
    for name, place in _NEW_DESCRIPTOR_AT.items():
        if (number := number_of(name, machine)) is not None:
            lines += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, place), (_EQUAL, 1, 0, channel), _ALLOWED, other]
    first, last = (_LOAD, 0, 0, _FIRST_AT), (_LOAD, 0, 0, _SECOND_AT)
    is_around = [first, (_AT_LEAST, 3, 0, channel + 1), last, (_AT_LEAST, 0, 1, channel), other, _ALLOWED]
    return [*lines, (_EQUAL, 0, len(is_around), _known("close_range", machine)), *is_around]


def _only(number: int, load: Instruction, values: Iterable[int], other: Instruction = _REFUSE_NOW) -> list[Instruction]:
    """Return instructions that allow a call if an argument has one of ``values``."""
    tests = [line for value in values for line in ((_EQUAL, 0, 1, value), _ALLOWED)]
    return [(_EQUAL, 0, len(tests) + 2, number), load, *tests, other]


def _known(name: str, machine: str) -> int:
    number = number_of(name, machine)
    assert number is not None, name
    return number
