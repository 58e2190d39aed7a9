"""A gist API on the loopback interface: gists with revisions, cut files, and failures on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

CUT_AT = 1000


@dataclass
class Failure:
    """An answer other than the right one.

    Attributes:
        status: Status of the answer.
        headers: Headers of the answer.
        body: Body of the answer.
        breaks_off: Close the connection after half of the right answer.
        hangs: Do not answer until the server is closed.
    """

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    breaks_off: bool = False
    hangs: bool = False


class GistServer:
    """Serves ``gists``: id -> list of revisions (oldest first), each file name -> text.

    Attributes:
        url: Base address of the API.
        failures: Answers given, first to last, before the right one is.
        requests: (path, headers) of what was asked.
        raw_host: Host that ``raw_url`` names, the server's own when None.
    """

    def __init__(self) -> None:
        self.gists: dict[str, list[dict[str, str]]] = {}
        self.failures: list[Failure] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.raw_host: str | None = None
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"gist_server": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> GistServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def revision(self, gist: str, number: int = -1) -> str:
        """Return the revision (40 hexadecimal characters) of a version of a gist."""
        return hashlib.sha1(json.dumps(self.gists[gist][number], sort_keys=True).encode()).hexdigest()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body for a path."""
        parts = [part for part in path.split("/") if part]
        if not parts or parts[0] not in ("gists", "raw") or len(parts) < 2 or parts[1] not in self.gists:
            return 404, b'{"message": "Not Found"}'
        revisions = [self.revision(parts[1], number) for number in range(len(self.gists[parts[1]]))]
        wanted = parts[2] if len(parts) > 2 else revisions[-1]
        if wanted not in revisions:
            return 404, b'{"message": "No commit found for SHA"}'
        files = self.gists[parts[1]][revisions.index(wanted)]
        if parts[0] == "raw":
            return 200, files[parts[3]].encode()
        listed = {name: self._describe(parts[1], wanted, name, text) for name, text in files.items()}
        history = [{"version": revision} for revision in reversed(revisions[: revisions.index(wanted) + 1])]
        return 200, json.dumps({"id": parts[1], "files": listed, "history": history}).encode()

    def _describe(self, gist: str, revision: str, name: str, text: str) -> dict[str, Any]:
        return {
            "filename": name,
            "size": len(text.encode()),
            "truncated": len(text) > CUT_AT,
            "content": text[:CUT_AT],
            "raw_url": f"{self.raw_host or self.url}/raw/{gist}/{revision}/{name}",
        }


class _Handler(BaseHTTPRequestHandler):
    gist_server: GistServer

    def do_GET(self) -> None:
        server = self.gist_server
        server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        failure = server.failures.pop(0) if server.failures else None
        status, body = server.answer(self.path)
        if failure is not None and failure.hangs:
            server.closing.wait(20)
            return
        if failure is not None and not failure.breaks_off:
            status, body = failure.status, failure.body
        self.send_response(status)
        for name, value in (failure.headers if failure else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if failure is not None and failure.breaks_off else body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
