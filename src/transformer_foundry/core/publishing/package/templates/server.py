"""Serve this model over HTTP: ``python server.py``, then ``GET /health``, ``POST /predict``, ``POST /generate``.

Needs the packages in ``requirements.txt``. Settings come from the environment, each with the default shown in
``Limits``: ``HOST``, ``PORT``, ``MAX_BODY_BYTES``, ``MAX_CHARACTERS``, ``MAX_TEXTS``, ``MAX_NEW_TOKENS``,
``MAX_RUNNING``, ``MAX_WAITING``, ``READ_SECONDS``, ``ANSWER_SECONDS``. There is no authentication: put a proxy in front
of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.exceptions import HTTPException
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as err:
    raise SystemExit(f"{err.name} is missing: pip install -r requirements.txt") from err

from inference import InputError, Model  # type: ignore[import-not-found]

__all__ = ["Limits", "make_app"]

Answer = TypeVar("Answer")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LARGEST = 2**31 - 1
_CONNECTIONS_BESIDE = 64


@dataclass(frozen=True)
class Limits:
    """Limits of a request; each is read from the environment variable of the same name in capitals."""

    max_body_bytes: int = 262_144
    max_characters: int = 20_000
    max_texts: int = 32
    max_new_tokens: int = 512
    max_running: int = 2
    max_waiting: int = 64
    read_seconds: int = 10
    answer_seconds: int = 30

    @classmethod
    def from_environment(cls) -> Limits:
        """Read the limits; a bad value ends the program with one sentence."""
        values = {}
        for field in fields(cls):
            text = os.environ.get(field.name.upper(), str(field.default))
            if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _LARGEST:
                raise SystemExit(f"{field.name.upper()} is {text!r}; a whole number above 0 was expected.")
            values[field.name] = int(text)
        return cls(**values)


class _Busy(Exception):
    """Too many requests are waiting."""


class _TooLarge(Exception):
    """A body is larger than allowed."""


class _Workers:
    """Runs the model in a few threads; a bounded number of requests waits for them."""

    def __init__(self, limits: Limits) -> None:
        self._slots = asyncio.Semaphore(limits.max_running)
        self._room = limits.max_running + limits.max_waiting
        self.active = 0

    async def run(self, work: Callable[[], Answer]) -> Answer:
        if self.active >= self._room:
            raise _Busy
        self.active += 1
        try:
            async with self._slots:
                # A client that disconnects must not free the slot while its thread still runs.
                return await asyncio.shield(asyncio.to_thread(work))
        finally:
            self.active -= 1


class BodyLimits:
    """ASGI middleware that refuses a body that is too large or too slow, before anything is parsed."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Read the whole body within the limits, then pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.limits.read_seconds)
        except _TooLarge:
            answer = _error(413, f"The body is larger than {self.limits.max_body_bytes} bytes.")
        except TimeoutError:
            answer = _error(408, f"The body did not arrive within {self.limits.read_seconds} seconds.")
        else:
            pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
            await self.app(scope, lambda: _first(pending, receive), send)
            return
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    async def _read(self, scope: Message, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self.limits.max_body_bytes:
            raise _TooLarge
        body = b""
        while True:
            message = await receive()
            chunk: bytes = message.get("body", b"")
            body += chunk
            if len(body) > self.limits.max_body_bytes:
                raise _TooLarge
            if not message.get("more_body", False):
                return body


async def _first(pending: list[Message], receive: Receive) -> Message:
    return pending.pop() if pending else await receive()


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


class _Request(BaseModel):
    # Strict: "12" is not a number, and an unknown key is a mistake.
    model_config = ConfigDict(strict=True, extra="forbid")


def make_app(model: Model, limits: Limits) -> FastAPI:
    """Return the application that serves ``model``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.workers = _Workers(limits)
        yield

    app = FastAPI(title=model.manifest["model"]["name"], lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimits, limits=limits)
    _add_routes(app, model, limits)
    _add_handlers(app)
    return app


def _add_routes(app: FastAPI, model: Model, limits: Limits) -> None:
    text = Annotated[str, Field(min_length=1, max_length=limits.max_characters)]

    class Prediction(_Request):
        texts: Annotated[list[text], Field(min_length=1, max_length=limits.max_texts)]
        top_k: Annotated[int, Field(ge=1, le=100)] = 5

    class Generation(_Request):
        text: text
        max_new_tokens: Annotated[int, Field(ge=1, le=limits.max_new_tokens)] = min(40, limits.max_new_tokens)
        temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.8
        top_k: Annotated[int, Field(ge=1, le=100_000)] = 40
        seed: Annotated[int, Field(ge=0, le=_LARGEST)] | None = None

    async def health() -> dict[str, Any]:
        contract = {"task": model.task, "max_length": model.max_length}
        return {"status": "ok", "model": model.manifest["model"]["name"], "file": model.file} | contract

    async def predict(body: Prediction) -> dict[str, Any]:
        answers = await app.state.workers.run(lambda: model.predict(body.texts, body.top_k))
        return {"answers": answers}

    async def generate(body: Generation) -> dict[str, Any]:
        settings = body.model_dump(exclude={"text"}) | {"seconds": limits.answer_seconds}
        made = await app.state.workers.run(lambda: model.generate(body.text, **settings))
        return {"text": made.text, "tokens": len(made.ids), "stopped": made.stopped}

    # Annotations of local classes cannot be found by name.
    predict.__annotations__["body"], generate.__annotations__["body"] = Prediction, Generation
    app.get("/health")(health)
    app.post("/predict")(predict)
    app.post("/generate")(generate)


def _add_handlers(app: FastAPI) -> None:
    def refused(_: Request, err: Exception) -> JSONResponse:
        return _error(422, str(err))

    def invalid(_: Request, err: Exception) -> JSONResponse:
        assert isinstance(err, RequestValidationError)
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

    handlers = (InputError, refused), (RequestValidationError, invalid), (_Busy, busy), (HTTPException, known)
    for kind, handler in (*handlers, (Exception, unknown)):
        app.add_exception_handler(kind, handler)


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose client does not finish the head of its request in time; uvicorn waits forever."""

    read_seconds = Limits.read_seconds
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock with the connection."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the head is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.read_seconds, self._give_up)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


def main() -> None:
    """Load the model and serve it until the process is stopped."""
    limits = Limits.from_environment()
    port = os.environ.get("PORT", "8000")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise SystemExit(f"PORT is {port!r}; a number from 0 to 65535 was expected.")
    try:
        app = make_app(Model(threads=1), limits)
    except InputError as err:
        raise SystemExit(str(err)) from err
    ImpatientProtocol.read_seconds = limits.read_seconds
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(port),
        http=ImpatientProtocol,
        ws="none",
        limit_concurrency=limits.max_running + limits.max_waiting + _CONNECTIONS_BESIDE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=limits.answer_seconds,
        server_header=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
