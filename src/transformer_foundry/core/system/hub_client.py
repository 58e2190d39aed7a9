"""Limit the time to wait for the Hugging Face Hub: ``huggingface_hub`` has no timeout of its own."""

from __future__ import annotations

import functools

__all__ = ["limit_hub_waits", "network_errors"]

WAIT_S = 60.0
"""Timeout for a connection and for each part of a response; the slowest commit seen took a few seconds."""


@functools.cache
def limit_hub_waits() -> None:
    """Set a timeout for requests to the Hub; an existing timeout of the user's client is kept.

    Versions before 1.0 have no such setting, and wait.
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
    """Return the exceptions of requests to the Hub that get no response or an error."""
    from huggingface_hub.errors import HfHubHTTPError

    # The client's HTTP library has changed twice (requests, httpx, httpx2); HfHubHTTPError derives from its base class.
    return (OSError, HfHubHTTPError.__bases__[0])
