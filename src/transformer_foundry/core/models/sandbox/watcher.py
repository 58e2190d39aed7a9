"""Watch a restricted process from outside: decide what it may open, refuse other calls, and keep what it has tried.

The kernel reports each call (seccomp user notification, Linux 5.5), so the code cannot forge or empty this record. What
it may open is enforced by Landlock; the watcher reads the path to say what was tried.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.models.sandbox.system_calls import (
    ARCHITECTURES,
    FOLDER_CALLS,
    OPENING,
    REPORTED,
    number_of,
)

__all__ = ["Watcher"]

_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101
_REQUEST, _REPLY = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_CONTINUE = 1
_NOT_PERMITTED = 1
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CREATING = os.O_CREAT | 0o20000000
"""Flags that may make a file: the second one is that of a file without a name (O_TMPFILE)."""
_CURRENT_FOLDER = -100
_FROM_FOLDER = ("openat", "mkdirat", "unlinkat")
"""Calls whose first argument is the folder that the path begins in."""
_UNIX = 1
"""A kind of socket: the C library looks up the name of the user with one."""
_LONGEST_PATH = 4096
_MOST_ATTEMPTS = 50
_MOST_FILES, _MOST_SCRATCH_BYTES = 128, 128 * 2**20
"""Each file has at most one mebibyte, so as many calls that create one bound what is on the disk, deleted or not."""
_MOST_THREADS = 1024
"""torch starts one or two a processor."""
_PAUSE_MS = 50
_MOST_MESSAGE_BYTES = 2**20
_READY = b'"ready"'
_NOT_CONFINED = b'"confined": false'


class Watcher:
    """Watches one process in a thread, from its start until ``stop``.

    Args:
        process: Its id.
        channel: Our end of the connection over which it sends its listener, and then its messages.
        readable: Files and folders that it may read.
        scratch: The folder that it may write.

    Attributes:
        reached: Ends of a sentence "The code ...", for each thing that it has tried.
        messages: What the process has sent; its code may have written this itself.
    """

    def __init__(self, process: int, channel: socket.socket, readable: Sequence[str], scratch: str) -> None:
        self.reached: list[str] = []
        self.messages = bytearray()
        self._process, self._channel = process, channel
        self._readable, self._scratch = tuple(readable), os.path.realpath(scratch)
        self._listener: int | None = None
        self._numbers = _numbers(platform.machine())
        self._socket = number_of("socket", platform.machine()) if self._numbers else None
        self._is_ready = False
        self._created = 0
        self._next_count_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left, and end the thread."""
        self._is_over.set()
        self._thread.join()
        if self._listener is not None:
            os.close(self._listener)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        is_open = True
        while True:
            ready = dict(poll.poll(_PAUSE_MS))
            if self._channel.fileno() in ready and is_open:
                is_open = self._receive(poll)
                if not is_open:
                    poll.unregister(self._channel)
            if self._listener is not None and ready.get(self._listener, 0) & select.POLLIN:
                self._decide(self._listener)
            elif not ready or not is_open:
                if self._is_over.is_set():
                    return
                if ready:
                    self._is_over.wait(_PAUSE_MS / 1000)
            # By the clock: code that opens files all the time must not keep us from counting.
            if time.monotonic() >= self._next_count_s:
                self._bound_resources()
                self._next_count_s = time.monotonic() + _PAUSE_MS / 1000

    def _receive(self, poll: select.poll) -> bool:
        """Take a message, and the listener, which comes with the first one; return whether more can follow."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 65536, 1)
        except OSError:
            return False
        for descriptor in descriptors:
            if self._listener is None:
                self._listener = descriptor
                poll.register(descriptor, select.POLLIN)
            else:
                os.close(descriptor)
        if len(self.messages) < _MOST_MESSAGE_BYTES:
            self.messages += data
        if not self._is_ready and _READY in self.messages:
            self._is_ready = True
            self.reached.clear()  # until now only our own imports ran
        return bool(data)

    def _decide(self, listener: int) -> None:
        request = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, request, True)
        except OSError:  # the call was interrupted, or the process has ended
            return
        number, thread, _, call, _, _, *arguments = _REQUEST.unpack(request)
        name = self._numbers.get(call, "")
        error, flags = -_NOT_PERMITTED, 0
        if name in FOLDER_CALLS:  # only without Landlock
            if not self._note_opening(thread, name, arguments):
                error, flags = 0, _CONTINUE
        elif name in OPENING and not self._may_create(name, arguments):
            pass
        elif name in OPENING:
            is_outside = self._note_opening(thread, name, arguments)
            # Without Landlock this is all that refuses: code with several threads may change the path meanwhile.
            if not (is_outside and self._is_ready and _NOT_CONFINED in self.messages):
                error, flags = 0, _CONTINUE
        elif name and not (call == self._socket and arguments[0] == _UNIX):
            self._note(name)
        try:
            fcntl.ioctl(listener, _ANSWER, bytearray(_REPLY.pack(number, 0, error, flags)), True)
        except OSError:
            return

    def _may_create(self, name: str, arguments: Sequence[int]) -> bool:
        """Count a call that may create a file, and end the process if there are too many."""
        flags = arguments[{"open": 1, "openat": 2}[name]] if name in ("open", "openat") else os.O_CREAT
        if not self._is_ready or not flags & _CREATING:
            return True
        self._created += 1
        if self._created > _MOST_FILES:
            self._end(f"it writes more than {_MOST_FILES} files or {_MOST_SCRATCH_BYTES // 2**20} MiB")
        return self._created <= _MOST_FILES

    def _end(self, what: str) -> None:
        self._note(what)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, 9)

    def _note(self, what: str) -> None:
        what = one_line(what, 200)
        if what not in self.reached and len(self.reached) < _MOST_ATTEMPTS:
            self.reached.append(what)

    def _note_opening(self, thread: int, name: str, arguments: Sequence[int]) -> bool:
        """Note a file that is neither readable nor in the scratch folder, and return whether it is one."""
        folder, address, flags = (arguments if name in _FROM_FOLDER else (_CURRENT_FOLDER, *arguments))[:3]
        path = self._path(thread, folder & 0xFFFFFFFF, address)
        if path is None:
            return True
        is_writing = name not in ("open", "openat") or bool(flags & _WRITING)
        allowed = (self._scratch, os.devnull) if is_writing else (*self._readable, self._scratch, os.devnull)
        is_outside = not any(path == place or path.startswith(place.rstrip("/") + "/") for place in allowed)
        if is_outside and (is_writing or os.path.exists(path)):  # libraries look for files that are not there
            self._note(f"it {'writes' if is_writing else 'reads'} {path[:100]}")
        return is_outside

    def _path(self, thread: int, folder: int, address: int) -> str | None:
        """Return the path that a call names, None if its memory cannot be read."""
        process = f"/proc/{self._process}"
        try:
            with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                # A path may end just before memory that is not there.
                text = memory.read(min(_LONGEST_PATH, 4096 - address % 4096))
                if b"\0" not in text:
                    text += memory.read(_LONGEST_PATH)
            name = os.fsdecode(text.partition(b"\0")[0])
            if not name.startswith("/"):
                link = "cwd" if folder in (_CURRENT_FOLDER, _CURRENT_FOLDER & 0xFFFFFFFF) else f"fd/{folder}"
                name = os.path.join(os.readlink(f"{process}/{link}"), name)
        except (OSError, ValueError, OverflowError):
            return None
        for own in ("/proc/self", "/proc/thread-self"):
            if name == own or name.startswith(f"{own}/"):
                return process + name[len(own) :]
        return os.path.realpath(name)

    def _bound_resources(self) -> None:
        """End the process if its scratch folder holds too much, or it has too many threads."""
        with contextlib.suppress(OSError):  # it has ended, or this is not Linux
            if os.stat(f"/proc/{self._process}/task").st_nlink - 2 > _MOST_THREADS:
                self._end(f"it starts more than {_MOST_THREADS} threads")
                return
        files = size = 0
        for entry in _entries(Path(self._scratch)):
            files += 1
            try:
                size += entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
            if files > _MOST_FILES or size > _MOST_SCRATCH_BYTES:
                self._end(f"it writes more than {_MOST_FILES} files or {_MOST_SCRATCH_BYTES // 2**20} MiB")
                return


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except OSError:
            continue


def _numbers(machine: str) -> dict[int, str]:
    """Return number -> name of a call that opens a file, or what it means that the code tries it."""
    if machine not in ARCHITECTURES:
        return {}
    place = list(ARCHITECTURES).index(machine)
    found = {numbers[place]: name for name, numbers in (OPENING | FOLDER_CALLS).items()}
    found |= {numbers[place]: what for what, table in REPORTED.items() for numbers in table.values()}
    return {number: name for number, name in found.items() if number is not None}
