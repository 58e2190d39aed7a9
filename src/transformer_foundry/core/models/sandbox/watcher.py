"""Watch a restricted process from outside: decide what it may open, refuse other calls, and keep what it has tried.

The kernel reports each call (seccomp user notification, Linux 5.5), so the code cannot forge or empty this record; the
audit hook of the process reports by such a call too. What it may open is enforced by Landlock; the watcher reads the
path to say what was tried, and refuses what is not for every user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
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
from transformer_foundry.core.models.sandbox.audit_hook import ATTEMPT
from transformer_foundry.core.models.sandbox.readable_paths import is_below, is_for_everyone, system_paths
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
_READY = b'{"ready": '
_REPORTING = {"mknod": 0, "mknodat": 1}
"""Calls by which the audit hook reports -> which argument is the text."""


class Watcher:
    """Watches one process in a thread, from its start until ``stop``.

    Args:
        process: Its id.
        channel: Our end of the connection over which it sends its listener, and then its messages.
        readable: Files and folders that it may read.
        scratch: The folder that it may write.
        own: Files and folders of the model and of Python, which need not be for every user.

    Attributes:
        reached: Ends of a sentence "The code ...", for each thing that it has tried.
        messages: What the process has sent; its code may have written this itself.
        walls: The protections that were active, as the process said before the model's code began.
    """

    def __init__(
        self, process: int, channel: socket.socket, readable: Sequence[str], scratch: str, own: Sequence[str] = ()
    ) -> None:
        self.reached: list[str] = []
        self.messages = bytearray()
        self.walls: list[str] = []
        self._process, self._channel = process, channel
        self._scratch = os.path.realpath(scratch)
        self._writable = frozenset((self._scratch, os.devnull))
        self._readable = self._writable.union(readable)
        self._own = frozenset((self._scratch, *map(os.path.realpath, own)))
        self._system = frozenset(system_paths())
        self._listener: int | None = None
        self._numbers = _numbers(platform.machine())
        self._socket = number_of("socket", platform.machine()) if self._numbers else None
        self._texts = _report_texts(platform.machine()) if self._numbers else {}
        self._is_ready = self._is_complete = False
        self._created = 0
        self._next_count_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left, and end the thread."""
        self._is_over.set()
        self._thread.join()
        if not self._is_complete:
            self._note("it makes the process fail that watches it")
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
                    self._is_complete = True
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
        else:
            self._end("it fills the connection to its parent")
        if not self._is_ready:
            self._take_ready()
        return bool(data)

    def _take_ready(self) -> None:
        """Take the line that the process has written just before the model's code: nothing before it is of that."""
        line, end, _ = bytes(self.messages).partition(_READY)[2].partition(b"}\n")
        if end:
            self.walls = json.loads(line)
            self._is_ready = True
            self.reached.clear()  # until now only our own imports ran

    def _decide(self, listener: int) -> None:
        request = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, request, True)
        except OSError:  # the call was interrupted, or the process has ended
            return
        number, thread, _, call, _, _, *arguments = _REQUEST.unpack(request)
        name = self._numbers.get(call, "")
        error, flags = -_NOT_PERMITTED, 0
        if name in OPENING or name in FOLDER_CALLS:
            # Where Landlock allows it or is missing, this is all that refuses: code with several threads may change the
            # path meanwhile.
            if self._may_create(name, arguments) and not self._refuses(thread, name, arguments):
                error, flags = 0, _CONTINUE
        elif name and not (call == self._socket and arguments[0] == _UNIX):
            self._note(self._report(thread, call, arguments) or name)
        try:
            fcntl.ioctl(listener, _ANSWER, bytearray(_REPLY.pack(number, 0, error, flags)), True)
        except OSError:
            return

    def _may_create(self, name: str, arguments: Sequence[int]) -> bool:
        """Count a call that may create a file, and end the process if there are too many."""
        flags = arguments[{"open": 1, "openat": 2}[name]] if name in ("open", "openat") else 0
        flags |= os.O_CREAT if name in ("creat", "mkdir", "mkdirat") else 0
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

    def _refuses(self, thread: int, name: str, arguments: Sequence[int]) -> bool:
        """Note a path that is not for the code, and return whether the call must be refused here."""
        folder, address, flags = (arguments if name in _FROM_FOLDER else (_CURRENT_FOLDER, *arguments))[:3]
        is_ours = name in FOLDER_CALLS or (self._is_ready and "files" not in self.walls)
        path = self._path(thread, folder & 0xFFFFFFFF, address)
        if path is None:
            return is_ours
        is_writing = name not in ("open", "openat") or bool(flags & _WRITING)
        is_outside = not is_below(path, self._writable if is_writing else self._readable)
        is_private = not is_outside and not is_writing and self._is_private(path)
        # Libraries look for files that are not there.
        if is_private or (is_outside and (is_writing or os.path.exists(path))):
            self._note(f"it {'writes' if is_writing else 'reads'} {path[:100]}")
        return (is_outside and is_ours) or (is_private and self._is_ready)

    def _is_private(self, path: str) -> bool:
        """Return whether this is a file of the system that root or a group alone may read, like nobody else."""
        is_checked = is_below(path, self._system) and not is_below(path, self._own)
        return is_checked and not is_for_everyone(path, self._system)

    def _report(self, thread: int, call: int, arguments: Sequence[int]) -> str | None:
        """Return what the audit hook of the process reports, None if this is another call."""
        place = self._texts.get(call)
        text = None if place is None else _text_at(thread, arguments[place])
        return text[len(ATTEMPT) :] if text is not None and text.startswith(ATTEMPT) else None

    def _path(self, thread: int, folder: int, address: int) -> str | None:
        """Return the path that a call names, None if its memory cannot be read."""
        process = f"/proc/{self._process}"
        name = _text_at(thread, address)
        if name is None:
            return None
        if not name.startswith("/"):
            link = "cwd" if folder in (_CURRENT_FOLDER, _CURRENT_FOLDER & 0xFFFFFFFF) else f"fd/{folder}"
            try:
                name = os.path.join(os.readlink(f"/proc/{thread}/{link}"), name)
            except OSError:
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


def _text_at(thread: int, address: int) -> str | None:
    """Return the text that ends with a zero in the memory of a thread, None if it cannot be read."""
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            # A path may end just before memory that is not there.
            text = memory.read(min(_LONGEST_PATH, 4096 - address % 4096))
            if b"\0" not in text:
                text += memory.read(_LONGEST_PATH)
    except (OSError, ValueError, OverflowError):
        return None
    return os.fsdecode(text.partition(b"\0")[0])


def _report_texts(machine: str) -> dict[int, int]:
    found = {number_of(name, machine): place for name, place in _REPORTING.items()}
    return {number: place for number, place in found.items() if number is not None}


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
