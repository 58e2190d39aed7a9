"""A loopback server that speaks enough of the W&B backend's API for online runs of the real client.

    with MiniWandb() as server:
        ...a process with server.environment() in its environment logs...
        server.history("run-id")        # the rows that arrived, in order
        server.refuse_with(500)         # from now on; "hang" and "cut" are answers too; None recovers

Covered: login, init, resume status, configuration, history, summary, uploads of files, finish. Not covered:
artifacts, sweeps, permissions.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY_FILE = "wandb-history.jsonl"


class MiniWandb:
    """The server; ``port`` 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.alerts: list[str] = []
        self._streams: dict[str, dict[str, dict[int, str]]] = {}
        self._status: int | str | None = None

        class Handler(_Handler):
            owner = self

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> MiniWandb:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def status(self) -> int | str | None:
        """What every request is answered with; None for the real answers."""
        return self._status

    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "f" * 40, "WANDB_MODE": "online", "WANDB_SILENT": "true"}

    def refuse_with(self, status: int | str | None) -> None:
        """Answer every request with ``status``, never ("hang") or with half an answer ("cut")."""
        self._status = status

    def history(self, run: str) -> list[dict[str, Any]]:
        """Return the rows of a run, as the server would show them."""
        lines = self._streams.get(run, {}).get(HISTORY_FILE, {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    def add_lines(self, run: str, body: dict[str, Any]) -> None:
        """Keep the lines of a run's files, each at its place: what is sent twice is there once."""
        for name, part in (body.get("files") or {}).items():
            lines = self._streams.setdefault(run, {}).setdefault(name, {})
            for index, line in enumerate(part.get("content", [])):
                lines[part.get("offset", 0) + index] = line

    def answer(self, name: str, variables: dict[str, Any], host: str) -> dict[str, Any]:
        """Answer the GraphQL operation ``name``."""
        if name == "Viewer":
            user = {"id": "u", "entity": "alice", "username": "alice", "email": "a@example.org", "flags": "{}"}
            return {"viewer": {**user, "teams": {"edges": []}}}
        if name == "RunResumeStatus":
            run = self.runs.get(variables.get("name", ""))
            entity = {"id": "e", "name": "alice"}
            bucket = self._bucket(run) if run else None
            return {"model": {"id": "p", "name": variables.get("project"), "entity": entity, "bucket": bucket}}
        if name == "UpsertBucket":
            return self._upsert(variables)
        if name == "ServerInfo":
            versions = {"max_cli_version": "99"}
            return {"serverInfo": {"cliVersionInfo": versions, "latestLocalVersionInfo": None, "features": []}}
        if name == "CreateRunFiles":  # without an answer the client's service crashes
            files = [{"name": file, "uploadUrl": f"http://{host}/storage/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": _id(variables["run"]), "uploadHeaders": [], "files": files}}
        if name == "NotifyScriptableRunAlert":
            self.alerts.append(variables.get("title", ""))
            return {"notifyScriptableRunAlert": {"success": True}}
        return {}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        key = variables.get("name") or "run"
        inserted = key not in self.runs
        run = self.runs.setdefault(key, {"name": key, "config": "{}", "project": variables.get("project") or "p"})
        run["config"] = variables.get("config") or run["config"]
        run["display"] = variables.get("displayName") or run.get("display") or key
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _bucket(self, run: dict[str, Any]) -> dict[str, Any]:
        history = self._streams.get(run["name"], {}).get(HISTORY_FILE, {})
        last = history[max(history)] if history else None
        return {
            "id": _id(run["name"]),
            "name": run["name"],
            "displayName": run.get("display", run["name"]),
            "description": "",
            "config": run["config"],
            "sweepName": None,
            "tags": [],
            "summaryMetrics": last or "{}",
            "historyLineCount": len(history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([last] if last else []),
            "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": 1}),  # without it the client does not resume
            "createdAt": "2026-01-01T00:00:00Z",
            "project": {"id": "p", "name": run["project"], "entity": {"id": "e", "name": "alice"}},
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: MiniWandb

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionResetError:  # the client drops its idle connections
            self.close_connection = True

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
        status = self.owner.status
        if status == "hang":
            while self.owner.status == "hang":
                time.sleep(0.1)
            self.close_connection = True
        elif status == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"data": ')
            self.close_connection = True
        elif isinstance(status, int):
            self._answer({"error": "refused"}, status)
        elif self.command == "POST" and self.path.startswith("/graphql"):
            query = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
            name = query.get("operationName") or (found[1] if found else "")
            self._answer({"data": self.owner.answer(name, query.get("variables") or {}, self.headers["Host"])})
        elif "file_stream" in self.path:
            self.owner.add_lines(self.path.split("/")[-2], json.loads(body))
            self._answer({"exitcode": None, "limits": {}})
        else:
            self._answer({})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _id(name: str) -> str:
    return base64.b64encode(f"Run:{name}".encode()).decode()
