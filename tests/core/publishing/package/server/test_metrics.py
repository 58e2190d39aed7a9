"""Figures of the server in the text format of Prometheus."""

from __future__ import annotations

import re
import urllib.request

import pytest

from tests.core.publishing.serving import ask

SAMPLE = re.compile(r'(\w+)((?:\{\w+="[^"\\\n]*"(?:,\w+="[^"\\\n]*")*\})?) (\d+(?:\.\d+)?)')

pytestmark = pytest.mark.slow


def figures(port: int) -> dict[str, float]:
    """Return the values by name and labels; each line must be one of the format, each name have a type before it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    assert text.endswith("\n")
    found, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# "):
            typed.add(re.fullmatch(r"# (?:TYPE (\w+) (?:counter|gauge|histogram)|HELP \w+ .+)", line)[1])
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        assert name in typed or re.sub(r"_(bucket|sum|count)$", "", name) in typed
        assert name + labels not in found
        found[name + labels] = float(value)
    return found


def test_requests_durations_and_tokens_are_counted(port: int) -> None:
    before = figures(port)
    ask(port, "/v1/completions", {"prompt": "w20", "max_tokens": 7, "temperature": 0, "stream": False})
    ask(port, "/generate", {"text": "w20", "max_new_tokens": 5, "temperature": 0})
    ask(port, "/generate", {"text": ""})
    ask(port, "/v1/completions", b" " * 6000)
    for path in ("/nothing", "/other"):
        ask(port, path)
    after = figures(port)
    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    requests = {name: value for name, value in grown.items() if name.startswith("foundry_requests_total")}
    assert requests == {
        'foundry_requests_total{path="/v1/completions",status="200"}': 1,
        'foundry_requests_total{path="/v1/completions",status="413"}': 1,
        'foundry_requests_total{path="/generate",status="200"}': 1,
        'foundry_requests_total{path="/generate",status="422"}': 1,
        'foundry_requests_total{path="/metrics",status="200"}': 1,
        'foundry_requests_total{path="other",status="404"}': 2,
    }
    assert grown["foundry_generated_tokens_total"] == 12
    assert grown['foundry_request_seconds_count{path="/generate"}'] == 2
    assert 0 < grown['foundry_request_seconds_sum{path="/generate"}'] < 60
    assert after["foundry_running_requests"] == after["foundry_waiting_requests"] == 0


def test_the_buckets_of_durations_grow_to_the_count(port: int) -> None:
    ask(port, "/health")
    found = figures(port)
    buckets = [value for name, value in found.items() if name.startswith('foundry_request_seconds_bucket{path="/heal')]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found['foundry_request_seconds_count{path="/health"}'] > 0
