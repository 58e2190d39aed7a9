"""Folders from elsewhere: no link leads out of them, and only plain files are opened.

Archives, git, rsync and Drive carry links. A command that followed one would read, replace or delete what it leads to,
and one that opened a named pipe would wait for ever. ``require_contained`` looks through a folder before it is used;
the functions here and in ``atomic`` do not follow a link that comes later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path

from transformer_foundry.core.base.errors import DataError, FoundryError

__all__ = ["file_opener", "plain_opener", "read_plain", "read_plain_text", "require_contained"]

# Windows has neither: there, making a link takes rights that an archive does not have.
_NO_FOLLOW, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
_WRITES = os.O_WRONLY | os.O_RDWR

_CORE_LOG = re.compile(r"/wandb/[^/]+/logs/debug-core\.log$")
"""W&B itself links its log in the user's cache here, in a new folder for each session; nothing else opens it."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def plain_opener(path: str, flags: int) -> int:
    """Open a plain file; ``opener`` of ``open``, in any mode. A link is not followed, a pipe not waited for.

    Writing to a character device is possible: it has no content to lose, and ``/dev/full`` is one.

    Raises:
        OSError: If it cannot be opened, or is no plain file.
    """
    return _open(path, flags | _NO_FOLLOW)


def file_opener(path: str, flags: int) -> int:
    """Open a plain file as ``plain_opener`` does, but follow links: those of the Hub's cache lead to its files."""
    return _open(path, flags)


def read_plain(path: Path) -> bytes:
    """Return the content of a plain file.

    Raises:
        OSError: If it cannot be read, is a link, or no plain file.
    """
    with open(path, "rb", opener=plain_opener) as file:
        return file.read()


def read_plain_text(path: Path, errors: str = "strict") -> str:
    """Return the text of a plain file.

    Raises:
        OSError: As ``read_plain``.
        UnicodeDecodeError: If it is not UTF-8, and ``errors`` is strict.
    """
    return read_plain(path).decode("utf-8", errors)


def require_contained(folder: Path, root: Path | None = None, error: type[FoundryError] = DataError) -> None:
    """Refuse a folder, or file, from which a link leads out, or that contains something else than files and folders.

    Args:
        folder: What is looked through, without following links; it need not exist.
        root: What the user has named, if ``folder`` is below it: links between the two may not lead out of it. It may
            be a link itself; so may ``folder`` without a root.
        error: Class of the error.

    Raises:
        FoundryError: Naming the link and its target, or what is no file, or the folder that cannot be read.
    """
    below = Path(os.path.abspath(folder))
    if root is not None and below.is_relative_to(os.path.abspath(root)):
        inside, below = os.path.realpath(root), below.relative_to(os.path.abspath(root))
        for part in (*reversed(below.parents), below):
            _require_inside(root / part, inside, root, error)
    inside, pending = os.path.realpath(folder), [os.path.realpath(folder)]
    try:
        _require_kind(Path(inside), os.lstat(inside).st_mode, error)
        while pending:
            pending += _look_through(pending.pop(), folder, inside, error)
    except (FileNotFoundError, NotADirectoryError):  # none yet, or a file
        return
    except OSError as err:
        raise error(
            f"{err.filename or folder} cannot be looked through: {err.strerror or err}; nothing was read or written.",
            "Expected a folder whose files can be listed: links in it that lead out are refused.",
            "Correct the rights of the folder, or move it away.",
        ) from err


def _look_through(place: str, folder: Path, inside: str, error: type[FoundryError]) -> list[str]:
    """Return the folders in ``place``.

    Raises:
        FoundryError: As ``require_contained``.
        OSError: If it cannot be listed.
    """
    below = []
    # Another process may delete what is being listed: an old checkpoint.
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
        for entry in entries:
            if entry.is_symlink() and not _CORE_LOG.search(entry.path):
                _require_inside(_shown(entry.path, inside, folder), inside, folder, error)
            elif entry.is_symlink():
                continue
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                mode = entry.stat(follow_symlinks=False).st_mode
                _require_kind(_shown(entry.path, inside, folder), mode, error)
    return below


def _shown(path: str, inside: str, folder: Path) -> Path:
    """Return a path below ``folder`` as the user writes that folder."""
    return folder / os.path.relpath(path, inside)


def _require_inside(path: Path, inside: str, folder: Path, error: type[FoundryError]) -> None:
    target = os.path.realpath(path)
    if target == inside or target.startswith(inside.rstrip(os.sep) + os.sep):
        return
    raise error(
        f"{path} is a link to {target}, outside of {folder}; nothing was read or written through it.",
        "Expected the file or folder itself: through a link, a folder from someone else would reach your files.",
        "Delete the link, or move what it leads to here. To use another disk, set data_dir (or the filepath of the "
        "catalog's entry) to a folder there.",
    )


def _require_kind(path: Path, mode: int, error: type[FoundryError]) -> None:
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None:
        raise error(
            f"{path} is {kind}; nothing was read or written.",
            "Expected files and folders only: a command would wait for it for ever, or write to a device.",
            "Delete it.",
        )


def _open(path: str, flags: int) -> int:
    # What is opened is emptied only when it is known to be a plain file.
    try:
        descriptor = os.open(path, (flags | _NO_WAIT) & ~os.O_TRUNC, 0o666)
    except OSError as err:
        if err.errno == errno.ELOOP and os.path.islink(path):
            raise OSError(err.errno, "it is a link, which is not followed", path) from err
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or (flags & _WRITES and stat.S_ISCHR(mode))):
            raise OSError(errno.EINVAL, "it is no plain file", path)
        if flags & os.O_TRUNC and stat.S_ISREG(mode):
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
