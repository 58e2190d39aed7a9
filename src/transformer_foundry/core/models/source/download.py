"""GET requests with a time limit, a size limit, retries with back-off, and no redirects to other hosts."""

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
# The gist API returns two files as JSON text: twice the largest file, plus escapes.
MAX_RESPONSE_BYTES = 32 * 2**20
LONGEST_RETRY_AFTER_S = 30.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class DownloadFailure(Exception):
    """A request that failed after all attempts.

    Args:
        reason: What happened, for a message.
        status: Status of the response, None without a response.
        headers: Headers of the response, with names in lower case.
        attempts: Number of attempts.
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
        """Whether the server refused because of too many requests."""
        has_limit = "retry-after" in self.headers or self.headers.get("x-ratelimit-remaining") == "0"
        return self.status == 429 or (self.status == 403 and has_limit)

    @property
    def minutes_to_wait(self) -> int:
        """Minutes until requests are allowed again, according to the server; 60 if unknown."""
        after, reset = self.headers.get("retry-after", ""), self.headers.get("x-ratelimit-reset", "")
        if after.isdecimal():
            return max(1, math.ceil(int(after) / 60))
        if reset.isdecimal():
            return max(1, min(60, math.ceil((int(reset) - time.time()) / 60)))
        return 60


@dataclass(frozen=True)
class Downloads:
    """Settings of GET requests.

    Attributes:
        timeout_s: Time limit of connecting and of each read.
        attempts: Number of attempts if the server fails or does not respond.
        backoff_s: Pause before the second attempt; it doubles for each further attempt.
        sleep: Function that waits.
    """

    timeout_s: float = 20.0
    attempts: int = 4
    backoff_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def get(self, url: str, *, token: str | None = None) -> bytes:
        """Return the body of the response from ``url``.

        Raises:
            DownloadFailure: If the response is an error or missing after all attempts.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return self._get_once(url, token)
            except DownloadFailure as failure:
                failure.attempts = attempt
                if attempt == self.attempts or not (failure.status is None or failure.status in RETRIED):
                    raise
                retry_after = failure.headers.get("retry-after", "")
                pause = self.backoff_s * 2 ** (attempt - 1)
                self.sleep(min(float(retry_after), LONGEST_RETRY_AFTER_S) if retry_after.isdecimal() else pause)
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
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as response:
                data: bytes = response.read(MAX_RESPONSE_BYTES + 1)
                announced = response.headers.get("Content-Length", "")
        except urllib.error.HTTPError as err:
            with err:
                named = {name.lower(): value for name, value in err.headers.items()}
            raise DownloadFailure(f"the response is {err.code} {err.reason}", err.code, named) from err
        except (OSError, http.client.HTTPException) as err:
            reason = getattr(err, "reason", err)
            raise DownloadFailure(f"{type(err).__name__}: {reason}" if str(reason) else type(err).__name__) from err
        if announced.isdecimal() and len(data) < int(announced):
            raise DownloadFailure(f"the response ended after {len(data)} of {announced} bytes")
        if len(data) > MAX_RESPONSE_BYTES:
            raise DownloadFailure(f"the response is larger than {MAX_RESPONSE_BYTES // 2**20} MiB", status=200)
        return data


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only within one host: another host could be an internal machine with secrets."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request; raise for another host."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.hostname, old.port) != (new.scheme, new.hostname, new.port):
            raise urllib.error.HTTPError(
                req.full_url, code, f"and redirects to another host, {new.hostname}", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
