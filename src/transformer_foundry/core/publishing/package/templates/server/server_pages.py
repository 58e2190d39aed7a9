"""The pages of ``server.py``: one on which a visitor asks the model, and one that describes the endpoints."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

__all__ = ["ask_page", "docs_page"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
pre, .answer { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8884; padding: .6rem; }
textarea { box-sizing: border-box; width: 100%; min-height: 6rem; font: inherit; }
input { width: 6rem; font: inherit; }
"""
_ASK = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title><link rel="icon" href="data:,"><style>{style}</style></head>
<body data-path="{path}">
<h1>{name}</h1>
<form id="form">
<p><label for="text">{label}</label><textarea id="text" maxlength="{longest}">{text}</textarea></p>
{fields}
<p><button id="ask">Ask</button> <button id="stop" type="button" disabled>Stop</button></p>
</form>
<p id="status" role="status"></p>
<div class="answer" id="answer" aria-label="Answer"></div>
<p><a href="/docs">The endpoints of this server</a></p>
<script>{script}</script>
</body></html>
"""
_PAIR = """<p><label for="pair">Second text</label><textarea id="pair" maxlength="{longest}"></textarea></p>"""
_SETTINGS = """<p>
<label>New tokens <input id="tokens" type="number" min="1" max="{most}" value="{usual}" required></label>
<label>Temperature <input id="temperature" type="number" min="0" max="5" step="0.1" value="0.8" required></label></p>"""
_SCRIPT = """
const at = (id) => document.getElementById(id);
const path = document.body.dataset.path;
let control;
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
    const found = (rest + part.value).split("\\n\\n");
    rest = found.pop();
    for (const event of found) if (event !== "data: [DONE]") yield JSON.parse(event.slice(6));
  }
}
const messageOf = ({ error }) => error.message ?? error;
function bodyOf(text) {
  if (path === "/predict") return { texts: [at("pair") ? [text, at("pair").value] : text] };
  const settings = { max_tokens: at("tokens").valueAsNumber, temperature: at("temperature").valueAsNumber };
  return { prompt: text, stream: true, ...settings };
}
async function answer() {
  const request = { method: "POST", headers: { "content-type": "application/json" }, signal: control.signal };
  const response = await fetch(path, { ...request, body: JSON.stringify(bodyOf(at("text").value)) });
  if (!response.ok) throw new Error(messageOf(await response.json()));
  if (path === "/predict") {
    for (const item of (await response.json()).answers[0]) at("answer").append(JSON.stringify(item) + "\\n");
    return;
  }
  for await (const event of events(response)) {
    if (event.error) throw new Error(messageOf(event));
    at("answer").append(event.choices[0].text);
  }
}
at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  control = new AbortController();
  at("answer").textContent = "";
  at("status").textContent = "Working.";
  at("ask").disabled = true;
  at("stop").disabled = false;
  try {
    await answer();
    at("status").textContent = "";
  } catch (error) {
    at("status").textContent = error.name === "AbortError" ? "Stopped." : error.message;
  }
  at("ask").disabled = false;
  at("stop").disabled = true;
});
at("stop").addEventListener("click", () => control.abort());
"""
_DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{style}</style></head>
<body>
<h1>{name}</h1>
{parts}
<p>An answer that is not 200 says what is wrong: <code>{{"error": "one sentence"}}</code>, below <code>/v1</code>
<code>{{"error": {{"message": ...}}}}</code>. 503 means that too many requests wait; try again after
<code>Retry-After</code> seconds.</p>
</body></html>
"""


def ask_page(model: Any, limits: Any) -> tuple[str, dict[str, str]]:
    """Return the page on which a visitor asks the model, and its headers."""
    values = {"longest": limits.max_characters, "most": limits.max_new_tokens, "usual": min(40, limits.max_new_tokens)}
    writes = _writes(model)
    fields = _SETTINGS if writes else _PAIR if model.text.settings["reads_pairs"] else ""
    page = _ASK.format(
        name=html.escape(model.name),
        style=_STYLE,
        path="/v1/completions" if writes else "/predict",
        label="Text with hidden tokens: write [MASK]" if model.task == "masked_lm" else "Text",
        text=html.escape("" if model.task == "masked_lm" else model.prompt_text),
        fields=fields.format(**values),
        script=_SCRIPT,
        **values,
    )
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    rules = f"default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-{digest}'"
    return page, _headers(rules)


def docs_page(model: Any, host: str) -> tuple[str, dict[str, str]]:
    """Return the page that describes the endpoints, with commands for ``host``, and its headers."""
    own = _writing(model.name) if _writes(model) else [("POST /predict", *_reading(model))]
    parts = [
        ("GET /", "A page on which you ask the model.", "/", None),
        *own,
        ("GET /health", "The model, its task and the longest text, in tokens.", "/health", None),
        ("GET /metrics", "Requests, durations and generated tokens, for Prometheus.", "/metrics", None),
        ("GET /openapi.json", "All fields and their limits.", "/openapi.json", None),
    ]
    shown = "\n".join(_part(host, *part) for part in parts)
    page = _DOCS.format(name=html.escape(model.name), style=_STYLE, parts=shown)
    return page, _headers("default-src 'none'")


def _writes(model: Any) -> bool:
    return model.task in ("causal_lm", "seq2seq_lm")


def _writing(name: str) -> list[tuple[str, str, str, Any]]:
    body = {"model": name, "prompt": "A text", "max_tokens": 20}
    return [
        ("POST /generate", "Continues or answers a text.", "/generate", {"text": "A text"}),
        ("POST /v1/completions", "The same for clients of OpenAI.", "/v1/completions", body),
        ("POST /v1/completions", "As it is written (server-sent events).", "/v1/completions", body | {"stream": True}),
        ("GET /v1/models", "The name of the model.", "/v1/models", None),
    ]


def _reading(model: Any) -> tuple[str, str, Any]:
    text: Any = "A [MASK] text" if model.task == "masked_lm" else "A text"
    given = ["A text", "Another"] if model.text.settings["reads_pairs"] else text
    return "Labels texts, or guesses hidden tokens.", "/predict", {"texts": [given]}


def _part(host: str, title: str, text: str, path: str, body: Any) -> str:
    streams = "-N " if isinstance(body, dict) and body.get("stream") else ""
    # In single quotes of the shell.
    given = json.dumps(body).replace("'", "'\\''")
    data = "" if body is None else f"{streams}-H 'content-type: application/json' -d '{given}' "
    return f"<h2><code>{title}</code></h2>\n<p>{text}</p>\n<pre>{html.escape(f'curl {data}http://{host}{path}')}</pre>"


def _headers(rules: str) -> dict[str, str]:
    more = "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return {"content-security-policy": f"{rules}; {more}"}
