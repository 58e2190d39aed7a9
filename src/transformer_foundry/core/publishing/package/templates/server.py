"""Serve this model over HTTP: ``python server.py``, then ``GET /health``, ``POST /predict``, ``POST /generate``.

Needs the packages in ``requirements.txt``. Settings come from the environment, each with the default shown in
``Limits``: ``HOST``, ``PORT``, ``MAX_BODY_BYTES``, ``MAX_CHARACTERS``, ``MAX_TEXTS``, ``MAX_NEW_TOKENS``,
``MAX_RUNNING``, ``MAX_WAITING``, ``MAX_PER_CLIENT``, ``READ_SECONDS``, ``ANSWER_SECONDS``. ``ALLOWED_HOSTS`` names the
hosts that clients ask for, if it is not this machine. There is no authentication: put a proxy in front of it, and its
address into ``FORWARDED_ALLOW_IPS``, so that its clients are told apart. The files are verified at the start, not with
``--no-verify``.
"""

from __future__ import annotations

import os
import sys

# A file of this folder must not stand for a library: nothing is imported from it before it is verified.
_HERE = {os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.realpath(__file__))}
_PATHS = list(sys.path)
sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in _HERE]

import hashlib
import html
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.exceptions import HTTPException
except ImportError as err:
    raise SystemExit(f"{err.name} is missing: pip install -r requirements.txt") from err

if __name__ != "__main__":
    sys.path[:] = _PATHS


def _verified(folder: Path, check: bool) -> ModuleType:
    """Return the module verify_files.py, run from the bytes that the manifest lists; it verifies everything else."""
    path = folder / "verify_files.py"
    try:
        source = path.read_bytes()
        if check and hashlib.sha256(source).hexdigest() != _listed(folder, path.name):
            raise ValueError("it is damaged")
        module = sys.modules["verify_files"] = ModuleType("verify_files")
        module.__file__ = str(path)
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except (ArithmeticError, LookupError, OSError, RecursionError, SyntaxError, TypeError, ValueError) as err:
        problem = f"verify_files.py or manifest.json in {folder} cannot be read ({type(err).__name__}: {err})"
        raise SystemExit(f"{' '.join(problem.split())[:300]}; download the package again.") from err
    return module


def _listed(folder: Path, name: str) -> object:
    return json.loads((folder / "manifest.json").read_bytes())["files"][name]["sha256"]


# Not resolved: in the Hub's cache the files are links to another folder.
FOLDER = Path(__file__).absolute().parent
_CHECK = "--no-verify" not in sys.argv
_files = _verified(FOLDER, _CHECK)
try:
    _code = _files.VerifiedCode(FOLDER, _files.read_manifest(FOLDER), check=_CHECK)
    _limits, _inference = _code.load("server_limits.py"), _code.load("inference.py")
except _files.PackageError as err:
    raise SystemExit(str(err)) from err
EMPTY, InputError, PackageError = _inference.EMPTY, _inference.InputError, _inference.PackageError
BodyLimits, Busy, Limits, Workers = _limits.BodyLimits, _limits.Busy, _limits.Limits, _limits.Workers
ImpatientProtocol, LARGEST, error = _limits.ImpatientProtocol, _limits.LARGEST, _limits.error

__all__ = ["Limits", "make_app"]

_error: Callable[[int, str], JSONResponse] = error
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title></head>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem">
<h1>{name}</h1>
<ul>
<li><code>GET /health</code>: the model, its task and the longest text.</li>
{endpoint}
<li><code>GET <a href="/openapi.json">/openapi.json</a></code>: all fields and their limits.</li>
</ul>
<pre>curl -H 'content-type: application/json' -d '{body}' http://{host}{path}</pre>
</body></html>
"""
_ENDPOINTS = {
    "/generate": ('{"text": "A text"}', "<li><code>POST /generate</code>: continues or answers a text.</li>"),
    "/predict": (
        '{"texts": ["A text"]}',
        "<li><code>POST /predict</code>: labels texts, or guesses hidden tokens.</li>",
    ),
}


class _Request(BaseModel):
    # Strict: "12" is not a number, and an unknown key is a mistake.
    model_config = ConfigDict(strict=True, extra="forbid")


def make_app(model: Any, limits: Any) -> FastAPI:
    """Return the application that serves ``model``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.workers = Workers(limits)
        yield

    # No redirect to the path without a slash: its address would be made from the Host header.
    app = FastAPI(title=model.name, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(BodyLimits, limits=limits)
    _add_routes(app, model, limits)
    _add_handlers(app)
    return app


def _add_routes(app: FastAPI, model: Any, limits: Any) -> None:
    text = Annotated[str, Field(min_length=1, max_length=limits.max_characters)]

    pair = Annotated[list[text], Field(min_length=2, max_length=2)]

    class Prediction(_Request):
        texts: Annotated[list[text | pair], Field(min_length=1, max_length=limits.max_texts)]
        top_k: Annotated[int, Field(ge=1, le=100)] = 5

    class Generation(_Request):
        text: text
        max_new_tokens: Annotated[int, Field(ge=1, le=limits.max_new_tokens)] = min(40, limits.max_new_tokens)
        temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.8
        top_k: Annotated[int, Field(ge=1, le=100_000)] = 40
        seed: Annotated[int, Field(ge=0, le=LARGEST)] | None = None

    async def health() -> dict[str, Any]:
        contract = {"task": model.task, "max_length": model.longest_text}
        return {"status": "ok", "model": model.name, "file": model.file} | contract

    async def page(request: Request) -> HTMLResponse:
        path = "/generate" if model.task in ("causal_lm", "seq2seq_lm") else "/predict"
        body, endpoint = _ENDPOINTS[path]
        host = html.escape(request.headers["host"])
        text = _PAGE.format(name=html.escape(model.name), body=body, endpoint=endpoint, host=host, path=path)
        return HTMLResponse(text, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    async def predict(request: Request, body: Prediction) -> dict[str, Any]:
        answers = await app.state.workers.run(
            _address(request), lambda: model.predict(body.texts, body.top_k, seconds=limits.answer_seconds)
        )
        return {"answers": answers}

    async def generate(request: Request, body: Generation) -> dict[str, Any]:
        settings = body.model_dump(exclude={"text"}) | {"seconds": limits.answer_seconds}
        made = await app.state.workers.run(_address(request), lambda: model.generate(body.text, **settings))
        return {"text": made.text, "tokens": len(made.ids), "stopped": made.stopped}

    # Annotations of local classes cannot be found by name.
    predict.__annotations__["body"], generate.__annotations__["body"] = Prediction, Generation
    for path in ("/", "/docs"):
        app.get(path, include_in_schema=False)(page)
    app.get("/health")(health)
    app.post("/predict")(predict)
    app.post("/generate")(generate)


def _address(request: Request) -> str:
    return str(_limits.client_of(request.client.host)) if request.client else ""


def _add_handlers(app: FastAPI) -> None:
    def refused(_: Request, err: Exception) -> JSONResponse:
        return _error(422, str(err))

    def invalid(request: Request, err: Exception) -> JSONResponse:
        assert isinstance(err, RequestValidationError)
        is_json = "json" in request.headers.get("content-type", "").lower()
        if not is_json and any(item["loc"] == ("body",) for item in err.errors()):
            return _error(422, "The body is read as JSON; send it with the header content-type: application/json.")
        if any(item["type"] == "string_too_short" for item in err.errors()):
            return _error(422, EMPTY)
        # The value is not repeated: it may be long, or a number that JSON cannot express.
        if any(item["type"] == "json_invalid" for item in err.errors()):
            return _error(422, "The body is not valid JSON.")
        places = [(".".join(map(str, item["loc"][1:])) or "body", str(item["msg"])) for item in err.errors()[:3]]
        return _error(422, "; ".join(f"{place}: {problem}" for place, problem in places)[:500])

    def busy(_: Request, __: Exception) -> JSONResponse:
        answer = _error(503, "Too many requests are waiting; try again in a moment.")
        answer.headers["retry-after"] = "1"
        return answer

    def known(_: Request, err: Exception) -> JSONResponse:
        assert isinstance(err, HTTPException)
        if err.status_code == 400:
            # JSON that is nested too deeply, or has too long a number, for this version of Python.
            return _error(422, "The body is not valid JSON.")
        return JSONResponse({"error": str(err.detail)}, err.status_code, headers=err.headers)

    def unknown(_: Request, __: Exception) -> JSONResponse:
        return _error(500, "The model could not answer; the log of the server says why.")

    handlers = (InputError, refused), (RequestValidationError, invalid), (Busy, busy), (HTTPException, known)
    for kind, handler in (*handlers, (Exception, unknown)):
        app.add_exception_handler(kind, handler)


def main() -> None:
    """Load the model and serve it until the process is stopped."""
    limits = Limits.from_environment()
    port = os.environ.get("PORT", "8000")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise SystemExit(f"PORT is {port!r}; a number from 0 to 65535 was expected.")
    if not _CHECK:
        print("warning: the files of the package are not verified (--no-verify).", file=sys.stderr)
    try:
        if _CHECK:
            _inference.verify(FOLDER, _inference.read_manifest(FOLDER), ("server.py",))
        app = make_app(_inference.Model(threads=1, check=_CHECK), limits)
    except (InputError, PackageError) as err:
        raise SystemExit(str(err)) from err
    ImpatientProtocol.read_seconds, ImpatientProtocol.per_client = limits.read_seconds, 2 * limits.max_per_client
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(port),
        http=ImpatientProtocol,
        ws="none",
        limit_concurrency=limits.connections,
        # Otherwise a client on this machine could give itself any address.
        proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=limits.answer_seconds,
        server_header=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
