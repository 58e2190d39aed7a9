"""A loopback server that speaks enough of the Hugging Face Hub's HTTP API for the real clients.

Nothing in huggingface_hub, datasets or transformers is mocked; they talk to it over HTTP, best from a child process::

    with MiniHub(tokens={"hf_test": "alice"}) as hub:
        subprocess.run([...], env=os.environ | hub.env("hf_test"))
        hub.repo("alice/gpt").head.files["README.md"].data      # what arrived
        hub.requests                                            # [(method, path, status), ...]

Covered: whoami, creating repositories, preupload, LFS upload and verification, atomic commits (parentCommit -> 412),
revisions, tags, refs, tree, paths-info, resolve (ranges, ETag, LFS redirect), validate-yaml, private and gated
repositories, error codes, injected failures and delays. Kept from the real Hub: writing needs a token; binary or large
files go through LFS; a pointer is accepted only when its bytes are there; the card's metadata must be valid. Not
covered: Xet (``env`` turns it off, so that uploads take the LFS route), git, pull requests, multipart uploads, quotas.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback.hub_cards import card_errors, card_metadata
from tests.loopback.hub_store import Commit, File, HubStore, Refused, Repo, needs_lfs

_ROUTES: list[tuple[str, re.Pattern[str], str]] = []
_SEGMENTS = {
    "kind": "models|datasets|spaces",
    "repo": "[^/]+/[^/]+",
    "rev": "[^/]+",
    "oid": "[0-9a-f]{64}",
    "name": ".+",
    "path": ".*",
    "prefix": "datasets/|spaces/|",
}
_CUT_BEFORE, _CUT_AFTER = -1, -2
_TRUE = ("True", "true", "1")


class MiniHub:
    """The server; ``tokens`` maps each accepted token to the user it belongs to."""

    def __init__(self, tokens: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mini-hub-")
        self.store = HubStore(Path(self._folder.name))
        self.tokens = {"hf_test": "alice"} if tokens is None else tokens
        self.requests: list[tuple[str, str, int]] = []
        self.readers: set[str] = set()
        self.faults: list[tuple[str, str, int, float | None]] = []
        self.delays: list[tuple[str, str, float]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        # Large files live on another origin, as on the real Hub: clients must not send their token there.
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> MiniHub:
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._folder.cleanup()

    def env(self, token: str | None = None, home: Path | None = None) -> dict[str, str]:
        """Environment that points every client here; clients read it when they are imported."""
        names = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        return names | ({"HF_TOKEN": token} if token else {}) | ({"HF_HOME": str(home)} if home else {})

    def repo(self, repo_id: str, kind: str = "models") -> Repo:
        return self.store.repos[kind, repo_id]

    def fail_next(
        self,
        status: int = 503,
        times: int = 1,
        method: str = "*",
        path: str = "*",
        retry_after_s: float | None = None,
    ) -> None:
        """Answer the next ``times`` requests that match with ``status``; the request is not carried out."""
        self.faults += [(method, path, status, retry_after_s)] * times

    def cut_next(self, times: int = 1, method: str = "*", path: str = "*", after: bool = False) -> None:
        """Cut the connection at the next requests that match: before they are carried out, or before the answer."""
        self.faults += [(method, path, _CUT_AFTER if after else _CUT_BEFORE, None)] * times

    def stall_next(self, seconds: float, times: int = 1, method: str = "*", path: str = "*") -> None:
        """Let the next ``times`` requests that match wait before they are answered."""
        self.delays += [(method, path, seconds)] * times


def _route(methods: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``<x>`` in the pattern becomes the group _SEGMENTS[x], passed to the handler by name."""
    expression = re.sub(r"<(\w+)>", lambda found: f"(?P<{found[1]}>{_SEGMENTS[found[1]]})", pattern.replace(".", r"\."))

    def add(function: Callable[..., None]) -> Callable[..., None]:
        _ROUTES.extend((method, re.compile(expression), function.__name__) for method in methods.split("|"))
        return function

    return add


class _Handler(BaseHTTPRequestHandler):
    hub: MiniHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the log of requests is ``hub.requests``."""

    def _dispatch(self) -> None:
        parts, self._cut = urlsplit(self.path), False
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            self._inject(parts.path)
            for method, pattern, name in _ROUTES:
                if method == self.command and (found := pattern.fullmatch(parts.path)):
                    return getattr(self, name)(**found.groupdict())
            self._refuse(404, f"No such route: {self.command} {parts.path}")
        except Refused as refused:
            headers = (
                {"X-Error-Message": refused.message}
                | refused.headers
                | ({"X-Error-Code": refused.code} if refused.code else {})
            )
            self._send(refused.status, {"error": refused.message}, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as err:
            # A mistake in this file must be seen by the test; the client would wait for an answer.
            traceback.print_exc()
            self._send(500, {"error": f"mini_hub: {type(err).__name__}: {err}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _dispatch

    def _inject(self, path: str) -> None:
        for index, (method, pattern, seconds) in enumerate(self.hub.delays):
            if method in ("*", self.command) and fnmatch(path, pattern):
                del self.hub.delays[index]
                time.sleep(seconds)
                break
        for index, (method, pattern, status, retry_after_s) in enumerate(self.hub.faults):
            if method in ("*", self.command) and fnmatch(path, pattern):
                del self.hub.faults[index]
                self._fail(status, retry_after_s)
                break

    def _fail(self, status: int, retry_after_s: float | None) -> None:
        if status == _CUT_AFTER:
            self._cut = True
            return
        self._body()
        if status == _CUT_BEFORE:
            self._cut = True
        raise Refused(
            status, "injected fault", headers={} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        )

    def _refuse(self, status: int, message: str, code: str | None = None) -> None:
        # The body must be read before the answer, or the connection cannot be used again.
        self._body()
        raise Refused(status, message, code)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self) -> dict[str, Any]:
        return json.loads(self._body() or b"{}")

    def _send(
        self, status: int, content: Any = None, headers: dict[str, str] | None = None, raw: bytes | None = None
    ) -> None:
        data = json.dumps({} if content is None else content).encode() if raw is None else raw
        self.hub.requests.append((self.command, self.path, status))
        if self._cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        kind = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(data))}
        for key, value in (kind | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()

    def _user(self, required: bool = False) -> str | None:
        token = self._token()
        if (token and token not in self.hub.tokens) or (required and not token):
            self._refuse(401, "Invalid username or password.")
        return self.hub.tokens.get(token)

    def _repo(self, kind: str, repo_id: str, write: bool = False) -> Repo:
        user, repo_id = self._user(), unquote(repo_id)
        owner, repo = repo_id.split("/")[0], self.hub.store.repos.get((kind, repo_id))
        if repo is None or (repo.private and user != owner):
            self._refuse(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user != owner:
            self._refuse(403 if user else 401, "You don't have the rights to write to this repository")
        assert repo is not None
        return repo

    def _commit_at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.resolve(revision)
        if commit is None:
            raise Refused(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return commit

    # Account and card

    @_route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        name = self._user(required=True)
        access = {
            "type": "access_token",
            "accessToken": {"displayName": "test", "role": "read" if self._token() in self.hub.readers else "write"},
        }
        self._send(200, {"type": "user", "id": name, "name": name, "fullname": name, "orgs": [], "auth": access})

    @_route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        asked = self._json()
        errors = [{"message": text} for text in card_errors(asked["content"], asked.get("repoType", "model") + "s")]
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    # Repositories

    @_route("POST", "/api/repos/create")
    def create(self) -> None:
        user, asked = self._user(required=True), self._json()
        owner = asked.get("organization") or user
        if owner != user:
            raise Refused(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        kind, repo_id = asked.get("type", "model") + "s", f"{owner}/{asked['name']}"
        made = {"url": f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}", "name": repo_id}
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        try:
            self.hub.store.create(kind, repo_id, str(user), private, asked.get("sdk"))
        except Refused as refused:
            if refused.status != 409:
                raise
            return self._send(409, made | {"error": refused.message}, {"X-Error-Message": refused.message})
        self._send(200, made | {"id": repo_id})

    @_route("GET", "/api/<kind>/<repo>")
    def repo_info(self, kind: str, repo: str) -> None:
        found = self._repo(kind, repo)
        self._send(200, _describe(found, found.head))

    @_route("GET", "/api/<kind>/<repo>/revision/<rev>")
    def revision_info(self, kind: str, repo: str, rev: str) -> None:
        found = self._repo(kind, repo)
        self._send(200, _describe(found, self._commit_at(found, rev)))

    @_route("GET", "/api/<kind>/<repo>/refs")
    def refs(self, kind: str, repo: str) -> None:
        found = self._repo(kind, repo)
        listed = {
            key: [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in table.items()]
            for key, folder, table in (("branches", "heads", found.branches), ("tags", "tags", found.tags))
        }
        self._send(200, listed | {"converts": [], "pullRequests": []})

    @_route("POST", "/api/<kind>/<repo>/tag/<name>")
    def tag(self, kind: str, repo: str, name: str) -> None:
        # The name of the tag comes in the body, the revision in the path.
        found, asked = self._repo(kind, repo, write=True), self._json()
        if asked["tag"] in found.tags:
            raise Refused(409, f"tag {asked['tag']} already exists")
        found.tags[asked["tag"]] = self._commit_at(found, name).oid
        self._send(200)

    @_route("DELETE", "/api/<kind>/<repo>/tag/<name>")
    def delete_tag(self, kind: str, repo: str, name: str) -> None:
        found = self._repo(kind, repo, write=True)
        if found.tags.pop(unquote(name), None) is None:
            raise Refused(404, f"tag {name} does not exist", "RevisionNotFound")
        self._send(200)

    # Reading

    @_route("GET", "/api/<kind>/<repo>/tree/<rev><path>")
    def tree(self, kind: str, repo: str, rev: str, path: str) -> None:
        commit = self._commit_at(self._repo(kind, repo), rev)
        base = unquote(path or "").strip("/")
        prefix = f"{base}/" if base else ""
        inside = {name: file for name, file in sorted(commit.files.items()) if name.startswith(prefix)}
        if base and not inside:
            raise Refused(404, f'{base} does not exist on "{rev}"', "EntryNotFound")
        recursive = self.query.get("recursive") in _TRUE
        folders, entries = set(), []
        for name, file in inside.items():
            parts = name[len(prefix) :].split("/")
            depth = len(parts) - 1 if recursive else min(1, len(parts) - 1)
            folders |= {prefix + "/".join(parts[: level + 1]) for level in range(depth)}
            if recursive or len(parts) == 1:
                entries.append(self._entry(name, file, commit))
        self._send(200, [_folder(name) for name in sorted(folders)] + entries)

    @_route("POST", "/api/<kind>/<repo>/paths-info/<rev>")
    def paths_info(self, kind: str, repo: str, rev: str) -> None:
        found, raw = self._repo(kind, repo), self._body()
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(raw)
            paths, self.query["expand"] = asked["paths"], str(asked.get("expand"))
        else:
            form = parse_qs(raw.decode())
            paths, self.query["expand"] = form.get("paths", []), form.get("expand", ["false"])[-1]
        commit, entries = self._commit_at(found, rev), []
        for path in [paths] if isinstance(paths, str) else paths:
            name = path.strip("/")
            if name in commit.files:
                entries.append(self._entry(name, commit.files[name], commit))
            elif any(other.startswith(name + "/") for other in commit.files):
                entries.append(_folder(name))
        self._send(200, entries)

    def _entry(self, path: str, file: File, commit: Commit) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": file.size, "oid": file.oid} | _lfs_fields(file)
        if self.query.get("expand") in _TRUE:
            entry["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
        return entry

    @_route("GET|HEAD", "/<prefix><repo>/resolve/<rev>/<path>")
    def resolve(self, prefix: str, repo: str, rev: str, path: str) -> None:
        found = self._repo((prefix or "models/")[:-1], repo)
        if found.admitted is not None and self._user() not in found.admitted:
            self._refuse(403 if self._user() else 401, f"Access to {repo} is restricted", "GatedRepo")
        commit = self._commit_at(found, rev)
        headers, file = {"X-Repo-Commit": commit.oid}, commit.files.get(unquote(path))
        if file is None:
            missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self._send(404, {"error": "Entry not found"}, headers | missing)
        if file.lfs is None:
            return self._send_file(file, headers)
        # The Hub redirects to its storage; the X-Linked headers describe what is there.
        headers |= {"Location": f"{self.hub.storage_url}/_lfs/{file.lfs}", "ETag": f'"{file.oid}"'}
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.lfs}"'}
        self._send(302, None, headers, raw=b"")

    @_route("GET|HEAD", "/_lfs/<oid>")
    def lfs_get(self, oid: str) -> None:
        self._no_token()
        path = self.hub.store.root / "lfs" / oid
        self._send_file(File(path, path.stat().st_size, oid, oid), {})

    def _send_file(self, file: File, headers: dict[str, str]) -> None:
        headers = headers | {"ETag": f'"{file.lfs or file.oid}"', "Accept-Ranges": "bytes"}
        data, status = file.data, 200
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found:
            start, stop = int(found[1]), min(int(found[2]) + 1, len(data)) if found[2] else len(data)
            if start >= len(data):
                return self._send(416, None, {"Content-Range": f"bytes */{len(data)}"}, raw=b"")
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data, status = data[start:stop], 206
        self._send(status, None, headers | {"Content-Type": "application/octet-stream"}, raw=data)

    # Writing

    @_route("POST", "/api/<kind>/<repo>/preupload/<rev>")
    def preupload(self, kind: str, repo: str, rev: str) -> None:
        found, asked = self._repo(kind, repo, write=True), self._json()
        commit, answers = self._commit_at(found, rev), []
        for file in asked["files"]:
            is_lfs = needs_lfs(file["path"], file["size"], base64.b64decode(file.get("sample", "")))
            present = commit.files.get(file["path"])
            answer = {"path": file["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            answers.append(answer | {"oid": present and (present.lfs if is_lfs else present.oid)})
        self._send(200, {"commitOid": commit.oid, "files": answers})

    @_route("POST", "/<prefix><repo>.git/info/lfs/objects/batch")
    def lfs_batch(self, prefix: str, repo: str) -> None:
        self._repo((prefix or "models/")[:-1], repo, write=True)
        objects = []
        for item in self._json()["objects"]:
            oid, entry = item["oid"], {"oid": item["oid"], "size": item["size"]}
            if not self.hub.store.has_lfs(oid):
                upload = {"href": f"{self.hub.storage_url}/_upload/{oid}", "header": {}}
                entry["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/_verify/{oid}", "header": {}}}
            objects.append(entry)
        self._send(200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"})

    @_route("PUT", "/_upload/<oid>")
    def lfs_put(self, oid: str) -> None:
        data = self._body()
        self._no_token()
        self.hub.store.keep_lfs(oid, data)
        self._send(200, None, {"ETag": f'"{oid}"'}, raw=b"")

    def _no_token(self) -> None:
        if self.headers.get("Authorization"):
            raise Refused(400, "Only one auth mechanism allowed: a Hub token reached the storage host")

    @_route("POST", "/_verify/<oid>")
    def lfs_verify(self, oid: str) -> None:
        self._body()
        self._send(200 if self.hub.store.has_lfs(oid) else 404)

    @_route("POST", "/api/<kind>/<repo>/commit/<rev>")
    def commit(self, kind: str, repo: str, rev: str) -> None:
        found = self._repo(kind, repo, write=True)
        lines = [json.loads(line) for line in self._body().splitlines() if line.strip()]
        made = self.hub.store.apply(found, rev, lines, self._user() or "")
        address = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{found.id}/commit/{made.oid}"
        self._send(200, {"success": True, "commitOid": made.oid, "commitUrl": address, "hookOutput": ""})


def _describe(repo: Repo, commit: Commit) -> dict[str, Any]:
    card = commit.files.get("README.md")
    metadata = (card_metadata(card.data.decode()) if card else None) or {}
    files = [
        {"rfilename": path, "size": file.size, "blobId": file.oid} | _lfs_fields(file)
        for path, file in sorted(commit.files.items())
    ]
    known = {"_id": repo.id, "id": repo.id, "modelId": repo.id, "author": repo.id.split("/")[0], "sha": commit.oid}
    plain = {
        "private": repo.private,
        "gated": repo.admitted is not None and "manual",
        "disabled": False,
        "downloads": 0,
        "likes": 0,
    }
    dates = {"lastModified": commit.date, "createdAt": commit.date}
    return known | plain | dates | {"tags": metadata.get("tags") or [], "cardData": metadata, "siblings": files}


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _lfs_fields(file: File) -> dict[str, Any]:
    return {"lfs": {"oid": file.lfs, "sha256": file.lfs, "size": file.size, "pointerSize": 130}} if file.lfs else {}
