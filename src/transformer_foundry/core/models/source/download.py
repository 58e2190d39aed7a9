"""GET requests with a time limit, a size limit, retries with back-off, and no redirect to another host."""

from __future__ import annotations

import http.client
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO
from urllib.parse import urlsplit

__all__ = ["DownloadFailure", "Downloads"]

RETRIED = frozenset((500, 502, 503, 504))
# The answer of the gist API repeats its files as JSON text: twice the largest file, and some.
MAX_ANSWER_BYTES = 32 * 2**20
LONGEST_RETRY_AFTER_S = 30.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class DownloadFailure(Exception):
    """A request that failed for good.

    Args:
        reason: What happened, for a message.
        status: Status of the answer, None if there was none.
        headers: Headers of the answer, with names in lower case.
        attempts: How often it was tried.
    """

    def __init__(
        self, reason: str, status: int | None = None, headers: Mapping[str, str] | None = None, attempts: int = 1
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = dict(headers or {})
        self.attempts = attempts

    @property
    def is_rate_limit(self) -> bool:
        """Whether the server refuses because of too many requests."""
        told = "retry-after" in self.headers or self.headers.get("x-ratelimit-remaining") == "0"
        return self.status == 429 or (self.status == 403 and told)

    @property
    def minutes_to_wait(self) -> int:
        """Minutes until requests are allowed again, as the server says; 60 when it does not."""
        after, reset = self.headers.get("retry-after", ""), self.headers.get("x-ratelimit-reset", "")
        if after.isdecimal():
            return max(1, math.ceil(int(after) / 60))
        if reset.isdecimal():
            return max(1, min(60, math.ceil((int(reset) - time.time()) / 60)))
        return 60


@dataclass(frozen=True)
class Downloads:
    """How GET requests are made.

    Attributes:
        timeout_s: Limit for connecting and for each read.
        attempts: How often a request is tried when the server fails or does not answer.
        backoff_s: Pause before the second attempt; it doubles for each further one.
        sleep: How a pause is made.
    """

    timeout_s: float = 20.0
    attempts: int = 4
    backoff_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def get(self, url: str, *, token: str | None = None) -> bytes:
        """Return the body that ``url`` answers with.

        Raises:
            DownloadFailure: If the answer is an error, or none came, after all attempts.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return self._get_once(url, token)
            except DownloadFailure as failure:
                failure.attempts = attempt
                if attempt == self.attempts or not (failure.status is None or failure.status in RETRIED):
                    raise
                told = failure.headers.get("retry-after", "")
                pause = self.backoff_s * 2 ** (attempt - 1)
                self.sleep(min(float(told), LONGEST_RETRY_AFTER_S) if told.isdecimal() else pause)
        raise AssertionError(f"attempts is {self.attempts}")

    def _get_once(self, url: str, token: str | None) -> bytes:
        headers = {"Accept": "application/vnd.github+json", "User-Agent": "transformer-foundry"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        handlers: list[urllib.request.BaseHandler] = [_SameHostRedirects()]
        if urlsplit(url).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(url, headers=headers)
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as answer:
                data: bytes = answer.read(MAX_ANSWER_BYTES + 1)
                announced = answer.headers.get("Content-Length", "")
        except urllib.error.HTTPError as err:
            with err:
                named = {name.lower(): value for name, value in err.headers.items()}
            raise DownloadFailure(f"the answer is {err.code} {err.reason}", err.code, named) from err
        except (OSError, http.client.HTTPException) as err:
            reason = getattr(err, "reason", err)
            raise DownloadFailure(f"{type(err).__name__}: {reason}" if str(reason) else type(err).__name__) from err
        if announced.isdecimal() and len(data) < int(announced):
            raise DownloadFailure(f"the answer broke off after {len(data)} of {announced} bytes")
        if len(data) > MAX_ANSWER_BYTES:
            raise DownloadFailure(f"the answer is larger than {MAX_ANSWER_BYTES // 2**20} MiB", status=200)
        return data


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only within one host: elsewhere it could lead to another machine's secrets."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request, or raise for another host."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.hostname, old.port) != (new.scheme, new.hostname, new.port):
            raise urllib.error.HTTPError(req.full_url, code, f"and leads to another host, {new.hostname}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
