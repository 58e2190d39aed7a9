"""Whether a path belongs to the file system of this machine."""

from __future__ import annotations

import os
import re

__all__ = ["is_local_path"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:+|.*::.*:")
"""A folder that is the beginning of a URL (``s3:``, ``simplecache::s3:``) or a drive of Windows (``C:``)."""


def is_local_path(path: str) -> bool:
    """Return whether ``path`` is a path of this machine, and no URL or drive of another system.

    ``Path("s3://bucket/run")`` is a folder called ``s3:``; what must not be created is recognized by that.

    Example:
        >>> is_local_path("data/05 tokens"), is_local_path("s3://bucket/run"), is_local_path("/home/me/s3:/bucket")
        (True, False, False)
    """
    folders = re.split(r"[\\/]", path)[:-1]
    if os.name == "nt" and folders and re.fullmatch("[A-Za-z]:", folders[0]):
        folders = folders[1:]
    return not any(_SCHEME.fullmatch(folder) for folder in folders)
