"""Limits of ``server.py``: sizes, times, the names that it answers to, and the share that one client may take."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = [
    "BodyLimits",
    "Busy",
    "ImpatientProtocol",
    "Limits",
    "Workers",
    "address_of",
    "client_of",
    "error",
    "error_object",
]

Answer = TypeVar("Answer")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST = 2**31 - 1
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Limits:
    """Limits of a request; each is read from the environment variable of the same name in capitals.

    ``ALLOWED_HOSTS`` names, separated by commas, the hosts that clients may ask for, besides this machine itself;
    ``*`` allows all. ``max_per_client`` bounds the requests of one address that wait or run, and half of the
    connections that it may have.
    """

    max_body_bytes: int = 262_144
    max_characters: int = 20_000
    max_texts: int = 32
    max_new_tokens: int = 512
    max_running: int = 2
    max_waiting: int = 96
    max_per_client: int = 64
    read_seconds: int = 10
    answer_seconds: int = 30
    hosts: frozenset[str] = field(default=frozenset(_LOCAL), metadata={"variable": "ALLOWED_HOSTS"})

    @classmethod
    def from_environment(cls) -> Limits:
        """Read the limits; a bad value ends the program with one sentence."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            if item.name == "hosts":
                continue
            text = os.environ.get(item.name.upper(), str(item.default))
            if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) <= LARGEST:
                raise SystemExit(f"{item.name.upper()} is {text[:40]!r}; a whole number above 0 was expected.")
            values[item.name] = int(text)
        named = os.environ.get("ALLOWED_HOSTS", "").split(",")
        hosts = {name.strip().lower().strip("[]") for name in (*named, os.environ.get("HOST", ""))}
        return cls(**values, hosts=frozenset(_LOCAL) | hosts - {"", "0.0.0.0", "::"})

    @property
    def connections(self) -> int:
        """Connections of all clients together: more than one client may have."""
        return self.max_running + self.max_waiting + 4 * self.max_per_client


class Busy(Exception):
    """Too many requests are waiting."""


class _TooLarge(Exception):
    """A body is larger than allowed."""


class Workers:
    """Runs the model in a few threads; clients take turns, and each may wait with a bounded number of requests."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = limits.max_running
        self._taken: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def running(self) -> int:
        """Requests whose thread runs."""
        return self._limits.max_running - self._free

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._taken.total() - self.running

    async def run(self, client: str, work: Callable[[], Answer]) -> Answer:
        """Return the result of ``work``, which runs in a thread when it is the turn of ``client``.

        Raises:
            Busy: If too many requests wait, or too many of this client.
        """
        room = self._limits.max_running + self._limits.max_waiting
        if self._taken.total() >= room or self._taken[client] >= self._limits.max_per_client:
            raise Busy
        self._taken[client] += 1
        try:
            await self._turn(client)
        except BaseException:
            self._leave(client)
            raise
        thread = asyncio.ensure_future(asyncio.to_thread(work))
        # A client that disconnects must not free the slot while its thread still runs.
        thread.add_done_callback(lambda _: self._release(client))
        return await asyncio.shield(thread)

    async def _turn(self, client: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            raise

    def _release(self, client: str) -> None:
        self._leave(client)
        self._next()

    def _leave(self, client: str) -> None:
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]

    def _next(self) -> None:
        """Give the slot to the client that has waited longest for its turn, or free it."""
        while self._waiting:
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            turn = queue.popleft()
            if queue:  # behind the others
                self._waiting[client] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class BodyLimits:
    """ASGI middleware that refuses a foreign host, and a body that is too large or too slow, before it is parsed."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Check the host, read the whole body within the limits, then pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if not self._knows(dict(scope["headers"]).get(b"host", b"")):
            answer = error(
                421, "This server does not answer to that name; ALLOWED_HOSTS=NAME allows another one.", path
            )
            await self._refuse(answer, scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.limits.read_seconds)
        except _TooLarge:
            answer = error(413, f"The body is larger than {self.limits.max_body_bytes} bytes.", path)
        except TimeoutError:
            answer = error(408, f"The body did not arrive within {self.limits.read_seconds} seconds.", path)
        else:
            pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
            await self.app(scope, lambda: _first(pending, receive), send)
            return
        await self._refuse(answer, scope, receive, send)

    async def _refuse(self, answer: JSONResponse, scope: Message, receive: Receive, send: Send) -> None:
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    def _knows(self, host: bytes) -> bool:
        """Return whether the name in the Host header is one of this server: a page elsewhere may lead browsers here."""
        name = host.decode("latin-1").lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        return "*" in self.limits.hosts or name.rstrip(".") in self.limits.hosts

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


def error(status: int, message: str, path: str = "", param: str | None = None, code: str | None = None) -> JSONResponse:
    """Return an answer that says in one sentence what is wrong, as OpenAI's clients read it if ``path`` is theirs."""
    if not path.startswith("/v1/"):
        return JSONResponse({"error": message}, status)
    return JSONResponse(error_object(status, message, param, code), status)


def error_object(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the error that OpenAI's clients read."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def address_of(request: Request) -> str:
    """Return the client of a request, empty if it has no address."""
    return client_of(request.client.host) if request.client else ""


def client_of(address: str) -> str:
    """Return the client that an address belongs to: whoever has one of IPv6 has its network of 64 bits.

    Example:
        >>> client_of("2001:db8::1:2"), client_of("127.0.0.1")
        ('2001:db8::/64', '127.0.0.1')
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), 64), strict=False))


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose client does not finish its request, or takes no bytes of its answer, in time.

    uvicorn waits forever for both.

    A client that has too many connections gets no more.
    """

    read_seconds = Limits.read_seconds
    per_client = 2 * Limits.max_per_client
    _connections: ClassVar[Counter[str]] = Counter()
    _deadline: asyncio.TimerHandle | None = None
    _progress: asyncio.TimerHandle | None = None
    _unsent = 0
    _address = ""

    def connection_made(self, transport: Any) -> None:
        """Start the clock with the connection, or close it if its client has too many."""
        super().connection_made(transport)
        self._address = client_of(str((transport.get_extra_info("peername") or ("",))[0]))
        self._connections[self._address] += 1
        if self._connections[self._address] > self.per_client:
            transport.close()
            return
        self._watch()
        self._progress = self.loop.call_later(self.read_seconds, self._require_progress)

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the head is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        if self._progress is not None:
            self._progress.cancel()
        self._connections[self._address] -= 1
        if self._connections[self._address] <= 0:
            del self._connections[self._address]
        super().connection_lost(exc)

    def _require_progress(self) -> None:
        """Drop the connection if its client has taken nothing of what waits; closing it would wait for the client."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent > 0:
            self.transport.abort()
            return
        self._unsent = unsent
        self._progress = self.loop.call_later(self.read_seconds, self._require_progress)

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
