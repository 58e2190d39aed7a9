"""The place of a dataset's files, local or behind fsspec, and the words for what goes wrong there."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io.core import Version, get_protocol_and_path

from transformer_foundry.core.base.errors import DataError, FoundryError, ParameterError, error_message
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.files.local_path import is_local_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Location", "explain_storage_errors", "local_path", "open_location", "refuse_version", "version_pattern"]

_LOCAL_PROTOCOLS = ("file", "local")
_OPEN_ARGS = "open_args_"


@dataclass(frozen=True)
class Location:
    """A place for files.

    Attributes:
        path: Its path in its file system.
        url: Its path with the protocol, for messages; without user and password.
        protocol: Name of the file system of fsspec; None for this machine, whose files are used without fsspec.
        options: Arguments of the file system.
    """

    path: str
    url: str
    protocol: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine."""
        return self.protocol is None

    @cached_property
    def fs(self) -> AbstractFileSystem:
        """The file system; some connect when they are made.

        Raises:
            DataError: If that fails.
        """
        import fsspec

        with explain_storage_errors(self.url):
            return fsspec.filesystem(self.protocol, **self.options)


def open_location(
    filepath: str | os.PathLike[str],
    version: Version | None,
    credentials: Mapping[str, Any] | None,
    fs_args: Mapping[str, Any] | None,
    *,
    opens_remote_files: bool = False,
) -> Location:
    """Return the place that an entry of the catalog names; nothing is contacted.

    Args:
        filepath: Its path.
        version: Set by Kedro for ``versioned: true``.
        credentials: Arguments of the file system that are secret.
        fs_args: Other arguments of the file system.
        opens_remote_files: Whether the dataset opens files behind fsspec with the ``open_args_...`` of ``fs_args``.

    Raises:
        ParameterError: If the path is one of another system, the library of its protocol is missing, or ``fs_args``
            has arguments that nothing uses.
    """
    filepath = os.fspath(filepath)
    protocol, path = get_protocol_and_path(filepath, version)
    is_local = protocol in _LOCAL_PROTOCOLS
    unused = [name for name in (fs_args or {}) if name.startswith(_OPEN_ARGS)]
    if unused and (is_local or not opens_remote_files):
        raise ParameterError(
            f"The entry of {redact(filepath)} has {' and '.join(unused)} in fs_args, which its type does not use"
            + (" on this machine." if opens_remote_files else "."),
            "Expected no such arguments: a file is written in one step, as it is.",
            "Remove them; a type of Kedro, such as json.JSONDataset, uses them.",
        )
    if is_local:
        return Location(str(_checked(path)), path)
    import fsspec

    url = redact(filepath)
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as err:
        raise ParameterError(
            f"The catalog has the path {url}, but {protocol}:// cannot be used here: {err}",
            "Expected a protocol of fsspec whose library is installed: s3fs for s3://, gcsfs for gs://, adlfs for az://.",
            "Install it with pip, or use a local path.",
        ) from err
    given = {name: value for name, value in (fs_args or {}).items() if not name.startswith(_OPEN_ARGS)}
    options = {**kind._get_kwargs_from_urls(filepath), **given, **(credentials or {})}
    return Location(str(kind._strip_protocol(filepath)), url, protocol, options)


def local_path(filepath: str | os.PathLike[str], what: str, remedy: str) -> Path:
    """Return the path of a dataset that only works on the disk of this machine.

    Args:
        filepath: Path in the catalog.
        what: The dataset and why it needs the disk, as the subject and the predicate of a sentence.
        remedy: What to do instead.

    Raises:
        ParameterError: If it is a URL, or a path of another system.
    """
    filepath = os.fspath(filepath)
    protocol, path = get_protocol_and_path(filepath)
    if protocol in _LOCAL_PROTOCOLS:
        return _checked(path)
    raise ParameterError(f"The catalog has the path {redact(filepath)}.", what, remedy)


def refuse_version(version: Version | None, what: str, remedy: str) -> None:
    """Refuse ``versioned: true``.

    Raises:
        ParameterError: If there is a version.
    """
    if version is not None:
        raise ParameterError("The catalog has 'versioned: true' for an entry without versions.", what, remedy)


def version_pattern(pattern: str) -> str:
    """Return the pattern by which Kedro lists versions, ``FILEPATH/*/NAME``, with brackets in it as they are.

    Example:
        >>> version_pattern("runs/a[1]/x.json/*/x.json")
        'runs/a[[]1]/x.json/*/x.json'
    """
    path, _, name = pattern.rpartition("/*/")
    return f"{glob.escape(path)}/*/{glob.escape(name)}"


@contextlib.contextmanager
def explain_storage_errors(url: str) -> Iterator[None]:
    """Say in words what a file system behind fsspec raises: each library has its own exceptions.

    Raises:
        DataError: For any error but ours.
    """
    try:
        yield
    except FoundryError:
        raise
    except Exception as err:  # an edge: the classes of botocore, aiohttp, gcsfs ... have no base in common
        what = f"{url} cannot be read or written: {type(err).__name__}: {error_message(err, 300)}"
        if "://" not in url:
            raise DataError(
                what,
                "Expected a file that this user may read and write, in the folder that the catalog names.",
                "Correct its permissions, or the path in the catalog.",
            ) from err
        raise DataError(
            what,
            "Expected access with the 'credentials' and 'fs_args' of the entry, and a network.",
            "Check conf/local/credentials.yml and the permissions there, or use a local path.",
        ) from err


def _checked(path: str) -> Path:
    if not is_local_path(path):
        raise ParameterError(
            f"The catalog has the path {redact(path)}.",
            "Expected a path of this machine, or PROTOCOL://PATH with a protocol of fsspec.",
            "Correct the entry, or data_dir if the path begins with it.",
        )
    return Path(path)
