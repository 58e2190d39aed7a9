"""Figures of ``server.py`` in the text format of Prometheus: requests, their durations, tokens, running requests."""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

__all__ = ["CONTENT_TYPE", "CountRequests", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds; the last is the default of ANSWER_SECONDS.
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
OTHER = "other"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class Metrics:
    """Counts since the start of the server."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._durations: dict[str, list[int]] = {}
        self._tokens = 0
        self._lock = threading.Lock()

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests[path, status] += 1
        self._seconds[path] += seconds
        self._durations.setdefault(path, [0] * (len(BUCKETS) + 1))[bisect.bisect_left(BUCKETS, seconds)] += 1

    def count_tokens(self, count: int) -> None:
        """Count generated tokens; threads may call it."""
        with self._lock:
            self._tokens += count

    def text(self, running: int, waiting: int) -> str:
        """Return all figures as text, with the requests that run and wait now."""
        answers = [
            (f'{{path="{path}",status="{status}"}}', count) for (path, status), count in sorted(self._requests.items())
        ]
        lines = [
            *_metric("foundry_requests_total", "counter", "Requests that were answered.", answers),
            *_metric("foundry_generated_tokens_total", "counter", "Tokens that were generated.", [("", self._tokens)]),
            *_metric("foundry_running_requests", "gauge", "Requests that the model works on.", [("", running)]),
            *_metric("foundry_waiting_requests", "gauge", "Requests that wait for the model.", [("", waiting)]),
            *_metric("foundry_request_seconds", "histogram", "From the request to the end of its answer.", []),
        ]
        for path, counts in sorted(self._durations.items()):
            total = 0
            for limit, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += count
                lines.append(f'foundry_request_seconds_bucket{{path="{path}",le="{limit}"}} {total}')
            lines.append(f'foundry_request_seconds_sum{{path="{path}"}} {self._seconds[path]:.6f}')
            lines.append(f'foundry_request_seconds_count{{path="{path}"}} {total}')
        return "\n".join(lines) + "\n"


class CountRequests:
    """ASGI middleware that counts answers; a path that is not known counts as ``other``."""

    def __init__(self, app: Any, metrics: Metrics, paths: Iterable[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """Count one request when its answer is sent, or given up."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in self.paths else OTHER
            self.metrics.count_request(path, status, time.perf_counter() - began)


def _metric(name: str, kind: str, text: str, values: Iterable[tuple[str, float]]) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(f"{name}{labels} {value}" for labels, value in values)]
