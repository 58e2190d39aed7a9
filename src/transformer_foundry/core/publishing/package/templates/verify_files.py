"""Check that the files of this package are as they were published; the programs of the package call it when they start.

Needs nothing but Python. ``python verify_files.py`` checks all files.
"""

from __future__ import annotations

import os
import sys

# A file of this folder must not stand for a module of Python: nothing is imported from it before it is verified.
_HERE = {os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.realpath(__file__))}
_PATHS = list(sys.path)
sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in _HERE]

import contextlib
import hashlib
import importlib.util
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

if __name__ != "__main__":
    sys.path[:] = _PATHS

__all__ = [
    "PackageError",
    "VerifiedCode",
    "one_line",
    "plain_name",
    "read_json",
    "read_manifest",
    "read_verified",
    "verify",
]

# Not resolved: in the Hub's cache the files are links to another folder.
FOLDER = Path(__file__).absolute().parent
MANIFEST, CARD = "manifest.json", "README.md"
LARGE_BYTES = 64 * 2**20
"""Size from which a digest is kept from one start to the next, with the size and the time of the file."""
_CODE = (".py", ".pyc", ".so", ".pyd", ".pth")
MOST_JSON_BYTES = 256 * 2**20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class PackageError(ValueError):
    """A file of the package is missing, damaged or not what it should be; the message is one sentence."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{one_line(problem, 300)}; download the package again.")


def one_line(text: object, longest: int = 2000) -> str:
    """Return ``text`` on one line, without characters that a terminal would obey."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(text)[:longest])


def plain_name(name: object) -> str:
    """Return ``name`` if it is the plain name of a file: it leads to no other folder.

    Raises:
        PackageError: If it is anything else.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PackageError(f"{MANIFEST} names the file {str(name)[:60]!r}, which is no plain file name")
    return name


def _path_inside(name: object) -> str:
    """Return ``name`` if it is a path below the package whose parts are plain names: ``native/config.json``."""
    if isinstance(name, str) and 1 <= name.count("/") <= 3:
        return "/".join(map(plain_name, name.split("/")))
    return plain_name(name)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        PackageError: If it cannot be read.
    """
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError("it is too large")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as err:
        raise PackageError(f"{path.name} in {path.parent} cannot be read ({type(err).__name__})") from err


def read_manifest(folder: Path = FOLDER) -> dict[str, Any]:
    """Return the manifest of the package in ``folder``.

    Raises:
        PackageError: If it cannot be read or lists no files.
    """
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict):
        raise PackageError(f"{MANIFEST} in {folder} is not that of a package")
    return manifest


def verify(folder: Path, manifest: dict[str, Any], names: Iterable[str]) -> None:
    """Compare files with the digests of the manifest; those of large files are kept until the file changes.

    Raises:
        PackageError: If one is missing, is not listed, or differs.
    """
    for name in names:
        _expected(folder, manifest, name)
        try:
            found = _digest(folder / name)
        except OSError as err:
            raise PackageError(f"{name} in {folder} cannot be read ({err.strerror or type(err).__name__})") from err
        _compare(folder, manifest, name, found)


def _compare(folder: Path, manifest: dict[str, Any], name: str, found: str) -> None:
    expected = _expected(folder, manifest, name)
    if found != expected:
        raise PackageError(f"{name} in {folder} is damaged: its sha256 is {found[:12]}, not {expected[:12]}")


def _expected(folder: Path, manifest: dict[str, Any], name: str) -> str:
    listed = manifest.get("files")
    entry = listed.get(_path_inside(name)) if isinstance(listed, dict) else None
    expected = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(expected, str):
        raise PackageError(f"{MANIFEST} in {folder} has no digest of {name}")
    return expected


def read_verified(folder: Path, manifest: dict[str, Any], name: str, *, check: bool = True) -> bytes:
    """Return the content of a file; with ``check``, the very bytes that have the digest of the manifest.

    Raises:
        PackageError: If the file is missing, is not listed, or differs.
    """
    try:
        content = (folder / _path_inside(name)).read_bytes()
    except OSError as err:
        raise PackageError(f"{name} in {folder} cannot be read ({err.strerror or type(err).__name__})") from err
    if check:
        _compare(folder, manifest, name, hashlib.sha256(content).hexdigest())
    return content


class VerifiedCode:
    """Imports modules of the package from the bytes that were verified: no cache, no file that is not listed.

    Args:
        folder: The folder of the package.
        manifest: Its manifest.
        check: Whether only listed files are imported, after a comparison with their digests.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], *, check: bool = True) -> None:
        self._folder, self._manifest, self._check = folder, manifest, check
        self._is_beside = False

    def load(self, file: str) -> ModuleType:
        """Import a module; it may import those beside it, by their names or by relative imports.

        Raises:
            PackageError: If a file is missing, is not listed, or differs.
        """
        name = file.removesuffix(".py")
        for old in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[old]
        # Later imports of a model are relative to it; its absolute names must not hide modules of others.
        sys.meta_path[:] = [item for item in sys.meta_path if getattr(item, "root", None) != name]
        self.root = name
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        spec = self._spec(name, file, [])
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        self._is_beside = True
        try:
            self.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            self._is_beside = False
        return module

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """Return where a module of the package is, None for any other module."""
        below = name.startswith(f"{self.root}.")
        if not below and not self._is_beside:
            return None
        place = (name[len(self.root) + 1 :] if below else name).replace(".", "/")
        if self._has(f"{place}/__init__.py"):
            return self._spec(name, f"{place}/__init__.py", [])
        if self._has(f"{place}.py"):
            return self._spec(name, f"{place}.py", None)
        return ModuleSpec(name, None, is_package=True) if self._has_code_in(f"{place}/") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave the creation of a module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the verified source of a module."""
        assert module.__spec__ is not None
        file = module.__spec__.loader_state
        source = read_verified(self._folder, self._manifest, file, check=self._check)
        # As text: a line that declares another encoding must not turn comments into code.
        text = source.decode("utf-8-sig")
        exec(compile(text, str(self._folder / file), "exec", dont_inherit=True), vars(module))

    def _has(self, file: str) -> bool:
        listed = self._manifest.get("files")
        return isinstance(listed, dict) and file in listed if self._check else (self._folder / file).is_file()

    def _has_code_in(self, folder: str) -> bool:
        listed = self._manifest.get("files")
        if self._check and isinstance(listed, dict):
            return any(file.startswith(folder) and file.endswith(".py") for file in listed)
        return not self._check and any((self._folder / folder).glob("*.py"))

    def _spec(self, name: str, file: str, folders: list[str] | None) -> ModuleSpec:
        loader: Any = self
        spec = importlib.util.spec_from_file_location(
            name, self._folder / file, loader=loader, submodule_search_locations=folders
        )
        assert spec is not None
        spec.loader_state = file
        spec.cached = None
        return spec


def _digest(path: Path) -> str:
    state = path.stat()
    if state.st_size < LARGE_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    key = f"{os.path.realpath(path)} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
    known = _known_digests()
    if key not in known:
        with path.open("rb") as file:
            known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        _keep_digests(known)
    return known[key]


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "transformer-foundry" / "verified.json"


def _known_digests() -> dict[str, str]:
    try:
        found = json.loads(_cache_file().read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _keep_digests(known: dict[str, str]) -> None:
    path = _cache_file()
    newest = dict(list(known.items())[-200:])
    with contextlib.suppress(OSError):  # without it the file is read again at the next start
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(newest, file)
        os.replace(file.name, path)


def main() -> int:
    """Check all files of this folder; return the exit code."""
    try:
        manifest = read_manifest()
        # The card may be edited by hand.
        names = [name for name in manifest.get("files") or {} if name != CARD]
        verify(FOLDER, manifest, names or [MANIFEST])
    except PackageError as err:
        print(err, file=sys.stderr)
        return 2
    unknown = sorted(
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*")
        if path.suffix in _CODE and path.relative_to(FOLDER).as_posix() not in names
    )
    if unknown:
        shown = one_line(", ".join(unknown[:3]), 200)
        print(f"{shown}: not of this package, and Python may run it; delete it.", file=sys.stderr)
        return 2
    print(f"{len(names)} files are as they were published.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
