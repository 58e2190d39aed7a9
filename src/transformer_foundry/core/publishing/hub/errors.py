"""What the Hub's refusals mean, and which of them pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DeploymentError

if TYPE_CHECKING:
    pass


import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from transformer_foundry.core.system.hub_client import network_errors

__all__ = ["translate_hub_errors", "with_retries"]

_ATTEMPTS = 5
_PAUSE_S = 1.0
# The Hub's limits are counted over five minutes.
_LONGEST_PAUSE_S = 300.0
# 409: somebody else has made the same tag; 412: somebody else's commit came between; 429 and the rest: the Hub is busy.
# Nothing has been done, or the next attempt finds it done.
_WORTH_RETRYING = (408, 409, 412, 429, 500, 502, 503, 504)

Result = TypeVar("Result")


def with_retries(call: Callable[[], Result]) -> Result:
    """Return what ``call`` returns, trying again after a cut connection or a refusal that passes.

    ``call`` must look at what is there before it changes anything: an answer may be lost after the change was made.
    The pause is what the Hub asks for (Retry-After), else it doubles.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except network_errors() as err:
            is_refusal = isinstance(err, HfHubHTTPError) and _status(err) not in _WORTH_RETRYING
            if attempt == _ATTEMPTS or is_refusal or _is_full(err):
                raise
            time.sleep(_pause(err, attempt))
    raise AssertionError("unreachable")


@contextlib.contextmanager
def translate_hub_errors(repo_id: str, folder: Path | None) -> Iterator[None]:
    """Say what the Hub's refusals mean and what to do; the package in ``folder`` stays complete in any case."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    pass

    later = publishing_later(folder, repo_id) if folder else "Nothing was changed on this machine."
    try:
        yield
    except HFValidationError as err:
        raise DeploymentError(
            f"{repo_id!r} cannot be the name of a repository: {err}",
            "Expected USER/NAME.",
            "Set deployment.hub_repo to a valid name.",
        ) from err
    except HfHubHTTPError as err:
        raise (_missing(repo_id) if folder is None and _status(err) == 404 else _refusal(repo_id, err, later)) from err
    except network_errors() as err:
        if _is_full(err):
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


def _is_full(err: BaseException) -> bool:
    return isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT)


def _status(err: Any) -> int | None:
    return getattr(getattr(err, "response", None), "status_code", None)


def publishing_later(folder: Path, repo_id: str) -> str:
    """Return what to say of a package that was not published: where it is, and the command that publishes it."""
    return f"The package is complete in {folder}; publish it with 'kedro hub publish {folder} {repo_id}'."
