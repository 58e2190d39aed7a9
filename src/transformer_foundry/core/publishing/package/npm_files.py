"""Third-party scripts for the page of a package, fetched with npm once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformer_foundry.core.base.errors import DeploymentError, FoundryError, format_error
from transformer_foundry.core.files.atomic import sha256_of

__all__ = ["ARCHIVES", "Archive", "page_scripts", "vendor_cache"]

_TIMEOUT_S = 300
_COMMAND = "python -m transformer_foundry.core.publishing.package.npm_files"
_REMEDY = f"Install Node.js with npm, run '{_COMMAND}' once, and package again."


@dataclass(frozen=True)
class Archive:
    """A package of npm and the files that are taken from it.

    Attributes:
        name: Name on npm.
        version: The version that the page was tested with.
        license: Its license.
        files: Path in the archive -> name in the model's package, sha256.
    """

    name: str
    version: str
    license: str
    files: Mapping[str, tuple[str, str]]


ARCHIVES = (
    Archive(
        "onnxruntime-web",
        "1.30.0",
        "MIT",
        {
            "package/dist/ort.wasm.bundle.min.mjs": (
                "ort.wasm.bundle.min.mjs",
                "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
            ),
            "package/dist/ort-wasm-simd-threaded.wasm": (
                "ort-wasm-simd-threaded.wasm",
                "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
            ),
        },
    ),
    Archive(
        "@huggingface/tokenizers",
        "0.2.0",
        "Apache-2.0",
        {
            "package/dist/tokenizers.min.mjs": (
                "tokenizers.min.mjs",
                "258e46332101335ce8d95aed7745b19ac3b46d37f3e159a89cf894c2ea9b1d3a",
            ),
            "package/LICENSE": (
                "tokenizers.LICENSE.txt",
                "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            ),
        },
    ),
)


def vendor_cache() -> Path:
    """Return the folder of the user's cache that keeps the fetched files."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "transformer-foundry" / "page"


def page_scripts(cache: Path | None = None, *, fetch: bool = True) -> list[Path]:
    """Return the scripts that the page needs, each with the expected sha256.

    Args:
        cache: Where they are kept; by default ``vendor_cache()``.
        fetch: Whether to fetch missing files with npm.

    Raises:
        DeploymentError: If a file is missing and npm is not installed, has no network, or gives another file.
    """
    cache = vendor_cache() if cache is None else cache
    found = []
    for archive in ARCHIVES:
        folder = cache / archive.name.replace("/", "-").lstrip("@") / archive.version
        if not _is_whole(folder, archive):
            if not fetch:
                raise DeploymentError(f"{archive.name} {archive.version} is not in {cache}.", "", _REMEDY)
            _fetch(folder, archive)
        found += [folder / name for name, _ in archive.files.values()]
    return found


def _is_whole(folder: Path, archive: Archive) -> bool:
    return all(_digest(folder / name) == expected for name, expected in archive.files.values())


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _fetch(folder: Path, archive: Archive) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the finished one can be renamed.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
            made = Path(scratch) / "files"
            made.mkdir()
            _unpack(_npm_pack(archive, Path(scratch)), made, archive)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as err:
        if not _is_whole(folder, archive):  # otherwise another process was faster
            raise DeploymentError(
                f"{archive.name} cannot be kept in {folder}: {err.strerror or err}.",
                "Expected a folder that can be written, with room for 50 MB.",
                "Free some space there, or set XDG_CACHE_HOME to another folder.",
            ) from err


def _npm_pack(archive: Archive, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DeploymentError("npm is not installed.", "The scripts of the page come from npm.", _REMEDY)
    command = [npm, "pack", f"{archive.name}@{archive.version}", "--ignore-scripts", "--fetch-retries=1"]
    try:
        # In a folder without an .npmrc or package.json, which would change what npm does.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise DeploymentError(f"npm did not answer within {_TIMEOUT_S} seconds.", "", _REMEDY) from err
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode != 0 or packed is None:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no reason given"]
        raise DeploymentError(
            f"npm could not fetch {archive.name} {archive.version}: {lines[0].strip()[:160]}.", "", _REMEDY
        )
    return packed


def _unpack(packed: Path, folder: Path, archive: Archive) -> None:
    """Write the wanted members under fixed names: no path of the archive is used."""
    try:
        with tarfile.open(packed) as tar:
            for member, (name, expected) in archive.files.items():
                stream = tar.extractfile(member)
                content = b"" if stream is None else stream.read()
                if hashlib.sha256(content).hexdigest() != expected:
                    raise DeploymentError(
                        f"{member} of {archive.name} {archive.version} is not the file that was tested.",
                        f"Expected sha256 {expected}, found {hashlib.sha256(content).hexdigest()}.",
                        "Ask npm for the original: npm config get registry; npm cache clean --force.",
                    )
                (folder / name).write_bytes(content)
    except (tarfile.TarError, KeyError, EOFError) as err:
        raise DeploymentError(f"The npm archive of {archive.name} is damaged: {err}.", "", _REMEDY) from err


def main() -> int:
    """Fill the cache; return the exit code."""
    try:
        files = page_scripts()
    except FoundryError as err:
        sys.stderr.write(f"{format_error(err)}\n")
        return 2
    sys.stdout.write("".join(f"{path}\n" for path in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
