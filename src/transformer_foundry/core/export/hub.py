"""Publish a package on the Hugging Face Hub: one commit, the same as the folder, safe to repeat."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.errors import DeploymentError
from transformer_foundry.core.export.files import MANIFEST_FILE
from transformer_foundry.core.export.options import FORMAT_FILES, is_repo_id
from transformer_foundry.core.export.package import Package, read_package

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["publish"]

_ATTEMPTS = 3
_PAUSE_S = 1.0
# 412: somebody else's commit came between; 429 and the rest: the Hub is busy. Nothing has been committed, or the retry
# finds it done.
_WORTH_RETRYING = (412, 429, 500, 502, 503, 504)


def publish(
    package_folder: str | Path,
    repo_id: str,
    *,
    token: str | None,
    endpoint: str | None = None,
    private: bool = True,
) -> dict[str, Any]:
    """Upload a package to the model repository ``repo_id``, which is made if it does not exist.

    All files go into one commit on top of the newest revision; files that are there already make no commit. Model files
    of an earlier package that this one does not have are deleted in the same commit, other files are left alone.

    Args:
        package_folder: A package, as ``build_package`` makes it.
        repo_id: ``USER/NAME``.
        token: Token with write access; None takes that of ``huggingface-cli login``.
        endpoint: Address of the Hub; huggingface.co when None.
        private: Whether the repository is private when it is made; one that exists stays what it is.

    Returns:
        ``repo_id``, ``revision`` (commit), ``url``.

    Raises:
        DeploymentError: If the package is damaged, the name is not valid, there is no token or it may not write there,
            or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    _check_name(repo_id)
    package = read_package(package_folder)
    token = token or get_token()
    if not token:
        raise DeploymentError(
            f"There is no token to publish to {repo_id} with.",
            "Expected a Hugging Face token with write access.",
            "Set HF_TOKEN in the environment (huggingface.co/settings/tokens); the package is complete in "
            f"{package.folder}.",
        )
    api = HfApi(endpoint=endpoint, token=token, library_name="transformer-foundry")
    with _in_plain_words(repo_id, package.folder):
        _refuse_other_type(api, repo_id)
        api.create_repo(repo_id, private=private, exist_ok=True)
        revision = _commit(api, repo_id, package)
    return {"repo_id": repo_id, "revision": revision, "url": f"{api.endpoint}/{repo_id}"}


def _check_name(repo_id: str) -> None:
    if not is_repo_id(repo_id):
        raise DeploymentError(
            f"{repo_id!r} cannot be the name of a model repository.",
            "Expected USER/NAME: letters, digits, '-', '_' and '.', no '--' or '..', not ending in '.git'.",
            "Set deployment.hub_repo, for example to alice/my-gpt.",
        )


def _refuse_other_type(api: HfApi, repo_id: str) -> None:
    if api.repo_exists(repo_id):
        return
    for kind in ("dataset", "space"):
        if api.repo_exists(repo_id, repo_type=kind):
            raise DeploymentError(
                f"{repo_id} is a {kind} on the Hub.",
                "A model is published to a model repository, and the same name for both would mislead.",
                "Choose another name for deployment.hub_repo.",
            )


def _commit(api: HfApi, repo_id: str, package: Package) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _commit_once(api, repo_id, package)
        except _network_errors() as err:
            is_refusal = isinstance(err, HfHubHTTPError) and _status(err) not in _WORTH_RETRYING
            if attempt == _ATTEMPTS or is_refusal:
                raise
            time.sleep(_PAUSE_S * attempt)
    raise AssertionError("unreachable")


def _commit_once(api: HfApi, repo_id: str, package: Package) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api.repo_info(repo_id)
    local = [*package.manifest["files"], MANIFEST_FILE]
    there = {sibling.rfilename for sibling in head.siblings or []}
    model_files = {name + end for name in FORMAT_FILES.values() for end in ("", ".data")}
    operations = [
        *(CommitOperationAdd(name, str(package.folder / name)) for name in local),
        *(CommitOperationDelete(name) for name in sorted(there & model_files - set(local))),
    ]
    # The client leaves out what is there already, and makes no commit when nothing is left.
    step = package.manifest["training"]["step"]
    title = f"Publish {package.manifest['model']['name']}" + ("" if step is None else f" of step {step}")
    return api.create_commit(repo_id, operations, commit_message=title, parent_commit=head.sha).oid


@contextlib.contextmanager
def _in_plain_words(repo_id: str, folder: Path) -> Iterator[None]:
    """Say what the Hub's refusals mean and what to do; the package stays complete on disk in any case."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    later = f"The package is complete in {folder}."
    try:
        yield
    except HFValidationError as err:
        raise DeploymentError(
            f"{repo_id!r} cannot be the name of a repository: {err}",
            "Expected USER/NAME.",
            "Set deployment.hub_repo to a valid name.",
        ) from err
    except HfHubHTTPError as err:
        raise _refusal(repo_id, err, later) from err
    except _network_errors() as err:
        raise DeploymentError(
            f"The Hugging Face Hub cannot be reached: {type(err).__name__}: {err}",
            "Publishing needs the network.",
            f"{later} Publish it later with 'kedro run --pipelines deployment --params deployment.hub_repo={repo_id}'.",
        ) from err


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
            f"The token may not write to {repo_id} ({status}).",
            f"Expected a token with write access to the repositories of {repo_id.split('/')[0]}.",
            f"Set HF_TOKEN to such a token, or deployment.hub_repo to a repository of yours. {later}",
        )
    return DeploymentError(
        f"The Hub refused {repo_id} ({status}): {getattr(err, 'server_message', None) or err}",
        "Expected it to accept the package.",
        f"{later} Correct what the message names, or publish it later.",
    )


def _status(err: Any) -> int | None:
    return getattr(getattr(err, "response", None), "status_code", None)


def _network_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub.errors import HfHubHTTPError

    # The client's HTTP library has changed twice (requests, httpx, httpx2); HfHubHTTPError derives from its base class.
    return (OSError, HfHubHTTPError.__bases__[0])
