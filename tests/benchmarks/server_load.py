"""Load on the server of a package: 50 clients at once, and the same requests one after another.

    python -m tests.benchmarks.server_load [REQUESTS]

The server of the bundled GPT runs with its default limits. 50 clients send REQUESTS (20) each to ``/v1/completions``,
16 tokens at temperature 0, every second one as a stream; meanwhile another one asks ``/health``. Then one client sends
the same requests one after another, and so on alternately. Clients and server share the machine. Prints the median of
the rounds; returns 1 if a request failed, or if its text is not that of all others.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.core.publishing.answers import answering_package
from tests.core.publishing.serving import running_server

_CLIENTS = 50
_ROUNDS = 3
_TOKENS = 16


def main(requests: int) -> int:
    """Print the figures; return 1 if an answer is wrong."""
    kinds = {"at once": _CLIENTS, "one after another": 1}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    waits: dict[str, list[float]] = {name: [] for name in kinds}
    health: dict[str, list[float]] = {name: [] for name in kinds}
    texts: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        folder = answering_package("gpt", Path(scratch), max_seq_len=256).folder
        with running_server(folder) as port:
            _client(port, 10, texts)  # the first requests load what later ones share
            for _ in range(_ROUNDS):
                for name, clients in kinds.items():
                    each = _CLIENTS * requests // clients
                    with _Prober(port, health[name]), ThreadPoolExecutor(clients) as pool:
                        began = time.perf_counter()
                        for found in pool.map(lambda _, each=each: _client(port, each, texts), range(clients)):
                            waits[name] += found
                        rates[name].append(_CLIENTS * requests / (time.perf_counter() - began))
    for name, clients in kinds.items():
        print(
            f"{clients} client{'s' * (clients > 1)} {name}: {statistics.median(rates[name]):.0f} requests/s, "
            f"latency p50 {_percentile(waits[name], 50)}, p95 {_percentile(waits[name], 95)}; "
            f"/health p95 {_percentile(health[name], 95)}, at most {1000 * max(health[name]):.0f} ms"
        )
    ratio = statistics.median(rates["at once"]) / statistics.median(rates["one after another"])
    wrong = [text for text in texts if text.startswith("error")]
    print(
        f"{ratio:.2f} times the requests of one client; {2 * _ROUNDS * _CLIENTS * requests} requests, errors: {wrong}"
    )
    return 0 if len(texts) == 1 and not wrong else 1


def _client(port: int, count: int, texts: set[str]) -> list[float]:
    """Send requests on one connection, add their texts, and return their seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        try:
            texts.add(_text(connection, number % 2 == 1))
        except (OSError, http.client.HTTPException, LookupError, ValueError) as err:
            texts.add(f"error: {err!r}")
        seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds


def _text(connection: http.client.HTTPConnection, stream: bool) -> str:
    body = {"prompt": "The value", "max_tokens": _TOKENS, "temperature": 0, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read().decode()
    if answer.status != 200:
        return f"error: {answer.status} {content[:200]}"
    if not stream:
        return str(json.loads(content)["choices"][0]["text"])
    *chunks, done, end = content.split("\n\n")
    if (done, end) != ("data: [DONE]", ""):
        return f"error: a stream ended with {done[:200]}"
    return "".join(json.loads(chunk.removeprefix("data: "))["choices"][0]["text"] for chunk in chunks)


class _Prober:
    """Asks ``/health`` ten times a second and adds the seconds of each answer."""

    def __init__(self, port: int, seconds: list[float]) -> None:
        self._port, self._seconds, self._is_over = port, seconds, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.1):
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
            connection.close()
            self._seconds.append(time.perf_counter() - began)


def _percentile(seconds: list[float], share: int) -> str:
    return f"{1000 * statistics.quantiles(seconds, n=100, method='inclusive')[share - 1]:.0f} ms"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
