"""A limit of waiting for the Hugging Face Hub: the client of ``huggingface_hub`` waits for an answer for ever."""

from __future__ import annotations

import functools

__all__ = ["limit_hub_waits", "network_errors"]

WAIT_S = 60.0
"""Longest wait for a connection and for each next piece of an answer; the slowest commit seen took a few seconds."""


@functools.cache
def limit_hub_waits() -> None:
    """Let requests to the Hub fail that get no answer; a limit that the user's own client has stays.

    Versions before 1.0 cannot be told, and wait.
    """
    import huggingface_hub

    set_factory = getattr(huggingface_hub, "set_client_factory", None)
    if set_factory is None:
        return
    client = huggingface_hub.get_session()
    kind, hooks = type(client), client.event_hooks
    if client.timeout.read is None:
        # A factory, not this one client: the library makes a new one after a broken connection.
        set_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=WAIT_S))


def network_errors() -> tuple[type[BaseException], ...]:
    """Return what requests to the Hub raise that get no answer, or one that refuses."""
    from huggingface_hub.errors import HfHubHTTPError

    # The client's HTTP library has changed twice (requests, httpx, httpx2); HfHubHTTPError derives from its base class.
    return (OSError, HfHubHTTPError.__bases__[0])
