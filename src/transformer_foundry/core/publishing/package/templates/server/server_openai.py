"""The endpoints of ``server.py`` that take and give what OpenAI's do: models, completions, and why there is no chat."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from server_limits import LARGEST, address_of, error, error_object

__all__ = ["add_openai_routes"]

_LOGGER = logging.getLogger("uvicorn.error")
# The defaults of OpenAI's completions.
_MAX_TOKENS, _TEMPERATURE = 16, 1.0
# Pieces of text that are kept apart for a client that takes none.
_MOST_WAITING = 64
# No standard has a status for an answer that nobody receives; proxies log this one.
CLIENT_IS_GONE = 499
_NO_CHAT = "This package has no chat template, so it cannot tell who says what; send the whole text to /v1/completions."
_NO_TEXT = "This model does not write text (its task is {task}); use /predict."


class _Refused(Exception):
    """A request that cannot be answered: status, message, parameter and OpenAI's name of the error."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        self.status, self.message, self.param, self.code = status, message, param, code


class _Streaming(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool = False


def add_openai_routes(app: FastAPI, model: Any, limits: Any, count_tokens: Callable[[int], None]) -> None:
    """Add ``/v1/models``, ``/v1/completions`` and ``/v1/chat/completions``.

    Args:
        app: The application; its state has ``workers``.
        model: The model of the package.
        limits: Limits of a request.
        count_tokens: Is called from a thread with the number of tokens that were generated.
    """
    began = int(time.time())
    body_type = _completion_body(limits)

    async def models() -> dict[str, Any]:
        entry = {"id": model.name, "object": "model", "created": began, "owned_by": "transformer-foundry"}
        return {"object": "list", "data": [entry]}

    async def completions(request: Request, body: Any) -> Response:
        _check(body, model)
        run = _Run(model, body, limits, count_tokens)
        task = asyncio.ensure_future(app.state.workers.run(address_of(request), run.write))
        task.add_done_callback(lambda _: run.end())
        if body.stream:
            return await _streamed(request, run, task)
        if not await _is_done(request, task):
            return _give_up(run, task)
        made = task.result()
        choices = [_choice(index, item.text, _reason(item)) for index, item in enumerate(made)]
        return JSONResponse(run.head | {"choices": choices, "usage": _usage(made)})

    async def chat() -> None:
        raise _Refused(404, _NO_CHAT, None, "no_chat_template")

    completions.__annotations__["body"] = body_type
    app.get("/v1/models")(models)
    app.post("/v1/completions")(completions)
    app.post("/v1/chat/completions")(chat)
    app.add_exception_handler(_Refused, _refuse)


def _completion_body(limits: Any) -> type[BaseModel]:
    text = Annotated[str, Field(min_length=1, max_length=limits.max_characters)]
    ending = Annotated[str, Field(min_length=1, max_length=200)]

    class Completion(BaseModel):
        # Strict: a parameter that is not known may change the answer, so it is refused.
        model_config = ConfigDict(strict=True, extra="forbid")
        model: str | None = None
        prompt: text | Annotated[list[text], Field(min_length=1, max_length=limits.max_texts)]
        max_tokens: Annotated[int, Field(ge=1, le=limits.max_new_tokens)] | None = None
        temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
        top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
        stop: ending | Annotated[list[ending], Field(max_length=4)] | None = None
        seed: Annotated[int, Field(ge=0, le=LARGEST)] | None = None
        stream: bool | None = None
        stream_options: _Streaming | None = None
        user: str | None = None  # names the end user, changes no answer
        # Only the values that change nothing.
        n: Literal[1] | None = None
        best_of: Literal[1] | None = None
        echo: Literal[False] | None = None
        logprobs: None = None
        suffix: Literal[""] | None = None
        presence_penalty: Literal[0] | None = None
        frequency_penalty: Literal[0] | None = None
        logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    return Completion


def _check(body: Any, model: Any) -> None:
    if body.model is not None and body.model != model.name:
        message = f"There is no such model here; leave the model out, or ask for {model.name!r}."
        raise _Refused(404, message, "model", "model_not_found")
    if model.task not in ("causal_lm", "seq2seq_lm"):
        raise _Refused(400, _NO_TEXT.format(task=model.task))
    if body.stream_options is not None and not body.stream:
        raise _Refused(400, 'stream_options: it needs "stream": true.', "stream_options")


def _refuse(_: Request, err: Exception) -> JSONResponse:
    assert isinstance(err, _Refused)
    answer: JSONResponse = error(err.status, err.message, "/v1/", err.param, err.code)
    return answer


class _Run:
    """One request for completions: a thread writes the texts, the event loop takes the pieces as they come."""

    def __init__(self, model: Any, body: Any, limits: Any, count_tokens: Callable[[int], None]) -> None:
        self._model, self._seconds, self._count_tokens = model, limits.answer_seconds, count_tokens
        self._prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        self._settings = {
            "max_new_tokens": body.max_tokens or min(_MAX_TOKENS, limits.max_new_tokens),
            "temperature": _TEMPERATURE if body.temperature is None else body.temperature,
            "top_k": None,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "stop": [body.stop] if isinstance(body.stop, str) else body.stop or [],
            "seed": body.seed,
        }
        self.head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model.name,
        }
        self.shows_usage = body.stream_options is not None and body.stream_options.include_usage
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[dict[str, Any] | None] = deque()
        self._has_news = asyncio.Event()
        self._is_given_up = threading.Event()

    def write(self) -> list[Any]:
        """Write the texts, in a thread, until they are finished or the client is gone."""
        ends = time.monotonic() + self._seconds
        for prompt in self._prompts:  # before the first text: all of them are written, or none
            self._model.text.encode(prompt)
        made: list[Any] = []
        for index, prompt in enumerate(self._prompts):
            pieces = self._pieces(prompt, max(0.0, ends - time.monotonic()), made)
            for count, piece in enumerate(pieces, 1):
                if self._is_given_up.is_set():
                    self._count_tokens(count)
                    return made
                if piece:
                    self._loop.call_soon_threadsafe(self._add, index, piece, None)
            self._count_tokens(len(made[-1].ids))
            self._loop.call_soon_threadsafe(self._add, index, "", _reason(made[-1]))
        return made

    def _pieces(self, prompt: str, seconds: float, made: list[Any]) -> Iterator[str]:
        made.append((yield from self._model.stream(prompt, **self._settings, seconds=seconds)))

    def _add(self, index: int, text: str, reason: str | None) -> None:
        """Keep a piece until the client takes it; a slow client gets larger ones, which take less memory."""
        last = self._waiting[-1] if len(self._waiting) >= _MOST_WAITING else None
        if last is not None and last["index"] == index:
            last["text"] += text
            last["finish_reason"] = reason
        else:
            self._waiting.append(_choice(index, text, reason))
        self._has_news.set()

    def end(self) -> None:
        """Let ``next_choice`` return None after the last piece."""
        self._waiting.append(None)
        self._has_news.set()

    async def next_choice(self) -> dict[str, Any] | None:
        """Return the next piece of a text, None at the end."""
        while not self._waiting:
            self._has_news.clear()
            await self._has_news.wait()
        return self._waiting.popleft()

    def give_up(self) -> None:
        """End generation with the next token: nobody waits for the text."""
        self._is_given_up.set()


class _Events(StreamingResponse):
    """The chunks of a run as server-sent events; a client that goes away ends the run."""

    def __init__(self, run: _Run, task: asyncio.Future[Any], first: dict[str, Any]) -> None:
        self._run, self._task = run, task
        # The second is for nginx, which otherwise collects the events.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(self._lines(first), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._run.give_up()
            self._task.cancel()

    async def _lines(self, first: dict[str, Any]) -> AsyncIterator[str]:
        run = self._run
        rest = {"usage": None} if run.shows_usage else {}
        choice: dict[str, Any] | None = first
        while choice is not None:
            yield _event(run.head | {"choices": [choice]} | rest)
            choice = await run.next_choice()
        try:
            made = await self._task
        except Exception:  # the status is sent: the error can only be the last event
            _LOGGER.exception("A text could not be finished.")
            yield _event(error_object(500, "The text could not be finished; the log of the server says why."))
            return
        if run.shows_usage:
            yield _event(run.head | {"choices": [], "usage": _usage(made)})
        yield "data: [DONE]\n\n"


async def _streamed(request: Request, run: _Run, task: asyncio.Future[Any]) -> Response:
    """Return the events; a request that is refused is refused before the first one."""
    waiting = asyncio.ensure_future(run.next_choice())
    if not await _is_done(request, waiting):
        return _give_up(run, task, waiting)
    first = waiting.result()
    if first is None:
        await task
        raise RuntimeError("a run without a text")
    return _Events(run, task, first)


async def _is_done(request: Request, result: asyncio.Future[Any]) -> bool:
    """Wait for ``result``; return False if the client goes away before."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    left = asyncio.ensure_future(leave())
    try:
        await asyncio.wait({result, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
    return result.done()


def _give_up(run: _Run, *tasks: asyncio.Future[Any]) -> Response:
    run.give_up()
    for task in tasks:
        task.cancel()
    return Response(status_code=CLIENT_IS_GONE)


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _reason(made: Any) -> str:
    return "stop" if made.stopped in ("end", "stop") else "length"


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def _usage(made: list[Any]) -> dict[str, int]:
    read, written = sum(item.prompt_tokens for item in made), sum(len(item.ids) for item in made)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
