"""What a loopback Hub keeps: repositories, commits, files; and the rules that the real Hub has for commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.loopback.hub_cards import card_errors

FIRST_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.onnx filter=lfs diff=lfs merge=lfs -text\n"
LFS_PATTERNS = (
    *("*.safetensors", "*.bin", "*.onnx", "*.onnx.data", "*.pt", "*.pt2", "*.pth", "*.ckpt", "*.parquet", "*.arrow"),
    *("*.npz", "*.npy", "*.zip", "*.gz", "*.model", "*.h5", "*.msgpack", "*.tflite", "*.zst"),
)
LFS_THRESHOLD_BYTES = 10_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class File:
    """One file of one commit; ``oid`` is the git blob's sha1, ``lfs`` the sha256 when it is stored by LFS."""

    path: Path
    size: int
    oid: str
    lfs: str | None = None

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    date: str
    author: str
    files: dict[str, File]


@dataclass
class Repo:
    """A repository; ``kind`` is models, datasets or spaces; a gated one gives files only to those admitted.

    A space has an ``sdk`` from its creation on.
    """

    kind: str
    id: str
    private: bool = False
    sdk: str | None = None
    admitted: frozenset[str] | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        revision = unquote(revision)
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and len(revision) >= 7:
            oid = next((commit for commit in self.commits if commit.startswith(revision)), None)
        return self.commits[oid] if oid else None

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]


class Refused(Exception):
    """An error answer, with the code from which huggingface_hub makes its specific exceptions."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


class HubStore:
    """Repositories and the bytes of their files, under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("lfs", "blobs"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lock = threading.RLock()

    def create(self, kind: str, repo_id: str, author: str, private: bool = False, sdk: str | None = None) -> Repo:
        owner, _, name = repo_id.partition("/")
        if not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)) or name.endswith((".git", ".")) or ".." in name:
            raise Refused(400, f"Invalid repository name: {repo_id}")
        if kind == "spaces" and sdk not in ("gradio", "docker", "static"):
            raise Refused(400, f'"sdk" of a space must be one of gradio, docker, static, not {sdk!r}')
        with self.lock:
            if (kind, repo_id) in self.repos:
                raise Refused(409, f"You already created this {kind[:-1]} repo")
            repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private, sdk)
            self._commit(repo, None, {".gitattributes": self._blob(FIRST_ATTRIBUTES)}, "initial commit", author, "main")
        return repo

    def apply(self, repo: Repo, revision: str, lines: list[dict[str, Any]], author: str) -> Commit:
        """Make one commit, all or nothing: every operation is checked before the branch moves."""
        with self.lock:
            parent = repo.resolve(revision)
            if parent is None:
                raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            header = next((line["value"] for line in lines if line["key"] == "header"), {})
            files = dict(parent.files)
            for line in lines:
                self._operate(files, line["key"], line["value"])
            expected = header.get("parentCommit")
            if expected and not parent.oid.startswith(expected):
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            card = files.get("README.md")
            if card and (errors := card_errors(card.data.decode("utf-8", "replace"), repo.kind)):
                raise Refused(400, f"Invalid metadata in README.md. {' '.join(errors)}")
            if unquote(revision) not in repo.branches:
                raise Refused(400, f"Cannot commit to {revision}: not a branch")
            return self._commit(repo, parent, files, header.get("summary", ""), author, unquote(revision))

    def _operate(self, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
        path = value.get("path", "")
        if path.startswith("/") or ".." in path.split("/"):
            raise Refused(400, f"Invalid path: {path}")
        if key == "file":
            is_base64 = value.get("encoding") == "base64"
            data = base64.b64decode(value["content"]) if is_base64 else value["content"].encode()
            if data and needs_lfs(path, len(data), data[:512]):
                raise Refused(400, f"Your push was rejected because it contains binary files. Offending file: {path}")
            files[path] = self._blob(data)
        elif key == "lfsFile":
            files[path] = self._lfs_file(value["oid"], int(value["size"]))
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refused(404, f"Entry not found: {path}", "EntryNotFound")
        elif key != "header":
            raise Refused(400, f"Unknown operation {key}")

    def keep_lfs(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refused(400, "content does not hash to its oid")
        part = self.root / "lfs" / f".{oid}.{threading.get_ident()}"
        part.write_bytes(data)
        part.replace(self.root / "lfs" / oid)

    def has_lfs(self, oid: str) -> bool:
        return (self.root / "lfs" / oid).exists()

    def _blob(self, data: bytes) -> File:
        oid = _blob_oid(data)
        path = self.root / "blobs" / oid
        path.write_bytes(data)
        return File(path, len(data), oid)

    def _lfs_file(self, sha256: str, size: int) -> File:
        path = self.root / "lfs" / sha256
        if not path.exists() or path.stat().st_size != size:
            raise Refused(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return File(path, size, _blob_oid(pointer.encode()), sha256)

    def _commit(
        self, repo: Repo, parent: Commit | None, files: dict[str, File], title: str, author: str, branch: str
    ) -> Commit:
        parent_oid = parent.oid if parent else None
        content = [parent_oid, title, author, time.time_ns(), sorted((path, file.oid) for path, file in files.items())]
        oid = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        commit = repo.commits[oid] = Commit(oid, parent_oid, title, date, author, files)
        repo.branches[branch] = oid
        return commit


def needs_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub wants a file uploaded by LFS: it is large, binary, or named like a weight file."""
    name = path.rsplit("/", 1)[-1]
    return size > LFS_THRESHOLD_BYTES or any(fnmatch(name, pattern) for pattern in LFS_PATTERNS) or b"\0" in sample


def _blob_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
