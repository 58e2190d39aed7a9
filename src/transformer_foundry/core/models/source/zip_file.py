"""Read an export from an untrusted zip file."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.files.bounded_zip import open_zip
from transformer_foundry.core.models.source.cache import (
    CONFIG_FILE,
    MAX_FILE_BYTES,
    MODEL_FILE,
    cached_folder,
    write_cache,
)
from transformer_foundry.core.models.source.support_modules import collect_support

__all__ = ["unpack_archive"]

MAX_ARCHIVE_BYTES = 50 * 2**20
MAX_MEMBERS = 1000
# What zipfile raises for damaged, encrypted and unusual archives, found by fuzzing.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OSError,
)  # fmt: skip


def unpack_archive(path: Path, cache_dir: Path) -> Path:
    """Copy ``model.py``, ``config.json`` and the modules that it imports to the cache, and return their folder.

    Nothing else is unpacked, so no member can be written elsewhere. An archive with links or with paths outside it is
    still refused, since it was probably made to do harm.

    Args:
        path: The zip file.
        cache_dir: Folder of the cache; the folder of the archive is named by its sha256.

    Raises:
        ModelError: If it is no zip file, is too large, contains links or paths outside it, or lacks a file.
    """
    if path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise _refusal(
            path, f"it has {path.stat().st_size / 2**20:.0f} MiB, but at most {MAX_ARCHIVE_BYTES // 2**20} are allowed"
        )
    folder = cache_dir / "zip" / sha256_of(path)
    if cached_folder(folder) is not None:
        return folder
    try:
        with open_zip(path, MAX_MEMBERS) as archive:
            members = archive.infolist()
            _refuse_unsafe_members(path, members)
            found = _find_members(path, members)
            content = {name: _read_member(path, archive, found[name]) for name in (MODEL_FILE, CONFIG_FILE)}

            def read(name: str) -> bytes | None:
                return _read_member(path, archive, found[name]) if name in found else None

            return write_cache(folder, content | collect_support(content[MODEL_FILE], read))
    except UNREADABLE as err:
        raise ModelError(
            f"'{path}' cannot be read as a zip file: {err}.",
            "Expected a zip file with model.py and config.json, stored or deflated, without a password.",
            "Make the zip file again, or set model.source to the unpacked folder.",
        ) from err


def _refuse_unsafe_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
            raise _refusal(path, f"its member '{member.filename}' is outside the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _refusal(path, f"its member '{member.filename}' is a link")


def _find_members(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the files of the topmost folder that has both files of an export, by their paths from there."""
    by_folder: dict[PurePosixPath, dict[str, zipfile.ZipInfo]] = {}
    for member in members:
        name = PurePosixPath(member.filename)
        if name.name in (MODEL_FILE, CONFIG_FILE) and "__MACOSX" not in name.parts:
            by_folder.setdefault(name.parent, {})[name.name] = member
    complete = [folder for folder, found in by_folder.items() if len(found) == 2]
    if not complete:
        names = ", ".join(member.filename for member in members[:8])
        raise ModelError(
            f"'{path}' has no folder with both model.py and config.json.",
            f"Expected both; found {names or 'nothing'}.",
            "Put both files into one folder of the zip file.",
        )
    top = min(complete, key=lambda folder: (len(folder.parts), str(folder)))
    paths = {member.filename: PurePosixPath(member.filename) for member in members}
    return {
        str(paths[member.filename].relative_to(top)): member
        for member in members
        if paths[member.filename].is_relative_to(top)
    }


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        # The size in the archive's directory may be wrong: read no more than is allowed.
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise _refusal(path, f"{member.filename} has more than {MAX_FILE_BYTES // 2**20} MiB unpacked")
    return data


def _refusal(path: Path, what: str) -> ModelError:
    return ModelError(
        f"The zip file '{path}' is refused: {what}.",
        "Expected a zip file with model.py and config.json.",
        "Make a zip file of only these two files, or set model.source to a folder.",
    )
