"""Retry calls to the Hugging Face Hub, and translate its refusals into errors with a remedy."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.system.hub_client import network_errors

__all__ = ["publish_later", "translate_hub_errors", "with_retries"]

_ATTEMPTS = 5
_PAUSE_S = 1.0
# The Hub counts its rate limits over five minutes.
_LONGEST_PAUSE_S = 300.0
# 409: another process has made the same tag; 412: another commit came first; 429 and the rest: the Hub is busy.
# Either nothing was changed, or the next attempt finds the change made.
_RETRYABLE = (408, 409, 412, 429, 500, 502, 503, 504)

Result = TypeVar("Result")


def with_retries(call: Callable[[], Result]) -> Result:
    """Return what ``call`` returns; retry after a lost connection or a temporary refusal.

    ``call`` must look at the present state before it changes anything: an answer may be lost after the change was made.
    The pause is what the Hub asks for (Retry-After), otherwise it doubles.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except network_errors() as err:
            is_final = isinstance(err, HfHubHTTPError) and _status(err) not in _RETRYABLE
            if attempt == _ATTEMPTS or is_final or _is_disk_full(err):
                raise
            time.sleep(_pause(err, attempt))
    raise AssertionError("unreachable")


@contextlib.contextmanager
def translate_hub_errors(repo_id: str, folder: Path | None) -> Iterator[None]:
    """Raise the Hub's refusals as errors with a remedy.

    Args:
        repo_id: The repository.
        folder: The package that is published, which stays complete in any case; None if nothing is published.

    Raises:
        DeploymentError: With the cause and what to do.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    later = publish_later(folder, repo_id) if folder else "Nothing was changed on this machine."
    try:
        yield
    except HFValidationError as err:
        raise DeploymentError(
            f"{repo_id!r} cannot be the name of a repository: {err}",
            "Expected USER/NAME.",
            "Set deployment.hub_repo to a valid name.",
        ) from err
    except HfHubHTTPError as err:
        is_missing = folder is None and _status(err) == 404
        raise (_missing(repo_id) if is_missing else _refusal(repo_id, err, later)) from err
    except network_errors() as err:
        if _is_disk_full(err):
            raise DeploymentError(
                f"There is no space left on this machine: {err}", "Publishing reloads what was published.", later
            ) from err
        raise DeploymentError(
            f"The Hugging Face Hub cannot be reached: {type(err).__name__}: {err}", "This needs the network.", later
        ) from err


def _missing(repo_id: str) -> DeploymentError:
    return DeploymentError(
        f"There is no model {repo_id} on the Hub, or the token may not see it (404).",
        "Expected USER/NAME of a model that was published.",
        "Look for its name on huggingface.co; for a private one set HF_TOKEN to a token of its owner.",
    )


def _refusal(repo_id: str, err: Any, later: str) -> DeploymentError:
    status = _status(err)
    if status == 401:
        return DeploymentError(
            f"The Hub does not accept the token for {repo_id} (401).",
            "Expected a valid token with write access, which sees that repository.",
            f"Make a new one at huggingface.co/settings/tokens and set HF_TOKEN. {later}",
        )
    if status in (403, 404):
        return DeploymentError(
            f"The token may not write to {repo_id} ({status}): {_message(err)}",
            f"Expected a token with write access to the repositories of {repo_id.split('/')[0]}.",
            f"Set HF_TOKEN to such a token, or deployment.hub_repo to a repository of yours. {later}",
        )
    return DeploymentError(
        f"The Hub refused {repo_id} ({status}): {_message(err)}",
        "Expected it to accept the package.",
        f"Correct what the message names, or wait. {later}",
    )


def _message(err: Any) -> str:
    return str(getattr(err, "server_message", None) or err)


def _pause(err: BaseException, attempt: int) -> float:
    headers = getattr(getattr(err, "response", None), "headers", None) or {}
    try:
        asked = float(headers.get("Retry-After", ""))
    except ValueError:
        asked = _PAUSE_S * 2 ** (attempt - 1)
    return min(max(asked, 0.0), _LONGEST_PAUSE_S)


def _is_disk_full(err: BaseException) -> bool:
    return isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT)


def _status(err: Any) -> int | None:
    return getattr(getattr(err, "response", None), "status_code", None)


def publish_later(folder: Path, repo_id: str) -> str:
    """Return where an unpublished package is, and the command that publishes it."""
    return f"The package is complete in {folder}; publish it with 'kedro hub publish {folder} {repo_id}'."
