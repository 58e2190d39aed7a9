"""Serve this model over HTTP: ``python server.py``; ``GET /docs`` describes the endpoints.

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
    from fastapi.responses import HTMLResponse, JSONResponse, Response
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
    _limits, _metrics = _code.load("server_limits.py"), _code.load("server_metrics.py")
    _openai, _pages = _code.load("server_openai.py"), _code.load("server_pages.py")
    _inference = _code.load("inference.py")
except _files.PackageError as err:
    raise SystemExit(str(err)) from err
EMPTY, InputError, PackageError = _inference.EMPTY, _inference.InputError, _inference.PackageError
BodyLimits, Busy, Limits, Workers = _limits.BodyLimits, _limits.Busy, _limits.Limits, _limits.Workers
ImpatientProtocol, LARGEST, error = _limits.ImpatientProtocol, _limits.LARGEST, _limits.error
CountRequests, Metrics = _metrics.CountRequests, _metrics.Metrics

__all__ = ["Limits", "make_app"]

_error: Callable[..., JSONResponse] = error
_NOT_JSON = "The body is not valid JSON."


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
    metrics = Metrics()
    _add_routes(app, model, limits, metrics)
    _openai.add_openai_routes(app, model, limits, metrics.count_tokens)
    _add_pages(app, model, limits, metrics)
    app.add_middleware(BodyLimits, limits=limits)
    # The last one is the outermost: what the limits refuse is counted too.
    paths = [str(getattr(route, "path", "")) for route in app.routes]
    app.add_middleware(CountRequests, metrics=metrics, paths=paths)
    _add_handlers(app)
    return app


def _add_routes(app: FastAPI, model: Any, limits: Any, metrics: Any) -> None:
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

    async def predict(request: Request, body: Prediction) -> dict[str, Any]:
        answers = await app.state.workers.run(
            _limits.address_of(request), lambda: model.predict(body.texts, body.top_k, seconds=limits.answer_seconds)
        )
        return {"answers": answers}

    async def generate(request: Request, body: Generation) -> dict[str, Any]:
        settings = body.model_dump(exclude={"text"}) | {"seconds": limits.answer_seconds}
        client = _limits.address_of(request)
        made = await app.state.workers.run(client, lambda: model.generate(body.text, **settings))
        metrics.count_tokens(len(made.ids))
        return {"text": made.text, "tokens": len(made.ids), "stopped": made.stopped}

    # Annotations of local classes cannot be found by name.
    predict.__annotations__["body"], generate.__annotations__["body"] = Prediction, Generation
    app.get("/health")(health)
    app.post("/predict")(predict)
    app.post("/generate")(generate)


def _add_pages(app: FastAPI, model: Any, limits: Any, metrics: Any) -> None:
    async def ask() -> HTMLResponse:
        page, headers = _pages.ask_page(model, limits)
        return HTMLResponse(page, headers=headers)

    async def docs(request: Request) -> HTMLResponse:
        page, headers = _pages.docs_page(model, request.headers["host"])
        return HTMLResponse(page, headers=headers)

    async def figures() -> Response:
        workers = app.state.workers
        return Response(metrics.text(workers.running, workers.waiting), media_type=_metrics.CONTENT_TYPE)

    for path, answer in (("/", ask), ("/docs", docs), ("/metrics", figures)):
        app.get(path, include_in_schema=False)(answer)


def _add_handlers(app: FastAPI) -> None:
    def refused(request: Request, err: Exception) -> JSONResponse:
        return _invalid(request, str(err))

    def invalid(request: Request, err: Exception) -> JSONResponse:
        assert isinstance(err, RequestValidationError)
        return _invalid(request, *_problem(request, err))

    def busy(request: Request, __: Exception) -> JSONResponse:
        answer = _error(503, "Too many requests are waiting; try again in a moment.", request.url.path)
        answer.headers["retry-after"] = "1"
        return answer

    def known(request: Request, err: Exception) -> JSONResponse:
        assert isinstance(err, HTTPException)
        if err.status_code == 400:
            # JSON that is nested too deeply, or has too long a number, for this version of Python.
            return _invalid(request, _NOT_JSON)
        answer = _error(err.status_code, str(err.detail), request.url.path)
        answer.headers.update(err.headers or {})
        return answer

    def unknown(request: Request, __: Exception) -> JSONResponse:
        return _error(500, "The model could not answer; the log of the server says why.", request.url.path)

    handlers = (InputError, refused), (RequestValidationError, invalid), (Busy, busy), (HTTPException, known)
    for kind, handler in (*handlers, (Exception, unknown)):
        app.add_exception_handler(kind, handler)


def _invalid(request: Request, message: str, param: str | None = None) -> JSONResponse:
    # OpenAI's clients know 400 for it.
    path = request.url.path
    return _error(400 if path.startswith("/v1/") else 422, message, path, param)


def _problem(request: Request, err: RequestValidationError) -> tuple[str, str | None]:
    """Return what is wrong with a body, and the field that is wrong."""
    errors = err.errors()
    is_json = "json" in request.headers.get("content-type", "").lower()
    if not is_json and any(item["loc"] == ("body",) for item in errors):
        return "The body is read as JSON; send it with the header content-type: application/json.", None
    field = str(errors[0]["loc"][1]) if len(errors[0]["loc"]) > 1 else None
    if any(item["type"] == "string_too_short" and field != "stop" for item in errors):
        return EMPTY, field
    # The value is not repeated: it may be long, or a number that JSON cannot express.
    if any(item["type"] == "json_invalid" for item in errors):
        return _NOT_JSON, None
    places = [(".".join(map(str, item["loc"][1:])) or "body", str(item["msg"])) for item in errors[:3]]
    return "; ".join(f"{place}: {problem}" for place, problem in places)[:500], field


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
