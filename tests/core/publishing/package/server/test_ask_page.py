"""The page of the server: its script, run by Node with the elements of the page, asks the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.core.publishing.serving import ask

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("node") is None, reason="Node is missing")]

# What the script uses of a page: its elements, their values and texts, and the two events.
BROWSER = """
const [origin, data, values, script] = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const elements = new Map();
function element(id) {
  if (!elements.has(id)) {
    const made = { id, textContent: "", listeners: {}, value: values[id], valueAsNumber: Number(values[id]) };
    made.append = (text) => (made.textContent += text);
    made.addEventListener = (name, listener) => (made.listeners[name] = listener);
    elements.set(id, made);
  }
  return elements.get(id);
}
const inPage = (id) => (id in values || ["form", "ask", "stop", "answer", "status"].includes(id) ? element(id) : null);
globalThis.document = { getElementById: inPage, body: { dataset: data } };
const real = fetch;
globalThis.fetch = (path, options) => real(origin + path, options);
(0, eval)(script);
element("form").listeners.submit({ preventDefault() {} }).then(() => {
  const { answer, status, ask, stop } = Object.fromEntries(elements);
  console.log(JSON.stringify([answer.textContent, status.textContent, ask.disabled, stop.disabled]));
});
"""


def shown(port: int, **values: Any) -> list[Any]:
    """Return what the page shows after a click on Ask: the answer, the message, and which buttons are disabled."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        page = answer.read().decode()
    (script,) = re.findall(r"<script>(.*)</script>", page, re.S)
    assert {*values, "form", "ask", "stop", "answer", "status"} <= set(re.findall(r'id="(\w+)"', page))
    (path,) = re.findall(r'data-path="(.*?)"', page)
    given = json.dumps([f"http://127.0.0.1:{port}", {"path": path}, values, script])
    done = subprocess.run(["node", "-e", BROWSER], input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_page_shows_the_text_that_the_server_streams(port: int) -> None:
    body = {"prompt": "w20 w21", "max_tokens": 9, "temperature": 0}
    expected = ask(port, "/v1/completions", body)[1]["choices"][0]["text"]
    assert shown(port, text="w20 w21", tokens=9, temperature=0) == [expected, "", False, True]


def test_the_page_shows_why_a_text_is_refused(port: int) -> None:
    message = "There is nothing in the text; write at least one word."
    assert shown(port, text="", tokens=9, temperature=0) == ["", message, False, True]
