"""Redirects of downloads: only to the same host, or to the hosts from which known services deliver files."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DataError

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

__all__ = ["check_redirect", "redirect_trace"]

_DELIVERED_FROM = {
    "github.com": ("githubusercontent.com", "codeload.github.com"),
    "huggingface.co": ("hf.co",),
    "drive.google.com": ("drive.usercontent.google.com",),
    "docs.google.com": ("googleusercontent.com",),
    "dropbox.com": ("dropboxusercontent.com",),
    "gitlab.com": ("gitlab-static.net",),
}
"""Service -> hosts to which its download links lead, with their subdomains."""


def redirect_trace() -> aiohttp.TraceConfig:
    """Return what makes an ``aiohttp`` session refuse redirects to foreign hosts."""
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_on_redirect)
    return trace


async def _on_redirect(_session: object, _context: object, params: Any) -> None:
    from yarl import URL

    target = params.url.join(URL(params.response.headers.get("Location", "")))
    check_redirect(params.url, target)
    if target.host != params.url.host and await _leads_inside(target) and not await _leads_inside(params.url):
        raise _refusal(params.url, target, "an address inside your network")


def check_redirect(origin: URL, target: URL) -> None:
    """Refuse a redirect to another host, or from https to http.

    Args:
        origin: The address that was asked.
        target: The address that it names instead.

    Raises:
        DataError: If the redirect is not followed.
    """
    if origin.scheme == "https" and target.scheme != "https":
        raise _refusal(origin, target, "an address without encryption")
    source, host = (str(url.host).lower().removeprefix("www.") for url in (origin, target))
    known = (source, *_DELIVERED_FROM.get(source, ()))
    is_own_port = origin.port == target.port or target.is_default_port()
    if not any(host == name or host.endswith(f".{name}") for name in known) or not is_own_port:
        raise _refusal(origin, target, "another host")


def _refusal(origin: URL, target: URL, what: str) -> DataError:
    return DataError(
        f"{origin.host} redirects data.source to {what}: {target.with_user(None).with_query(None)}.",
        "Expected data from the host that you named, or from where a known service delivers its files.",
        "If you trust that address, set data.source to it.",
    )


async def _leads_inside(address: URL) -> bool:
    """Return whether a host has an address that is not public; one that only a proxy can resolve has none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(str(address.host), address.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_global for *_, place in found)
