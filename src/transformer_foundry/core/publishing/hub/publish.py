"""Publish a package on the Hugging Face Hub: one commit, verified by reloading it, tagged, safe to repeat."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.publishing.hub.errors import publish_later, translate_hub_errors, with_retries
from transformer_foundry.core.publishing.options import is_repo_id
from transformer_foundry.core.publishing.package.package import (
    CARD_FILE,
    Package,
    package_files,
    read_package,
    require_whole,
)
from transformer_foundry.core.system.hub_client import limit_hub_waits

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

__all__ = ["commit_files", "connect", "manifest_digest", "next_tag", "publish", "published_manifest", "release_tags"]

_TAG = re.compile(r"v(\d+)")
# Files of a repository that is new: they may be replaced without asking.
_INITIAL_FILES = {".gitattributes", CARD_FILE}


def publish(
    package_folder: str | Path,
    repo_id: str,
    *,
    token: str | None,
    endpoint: str | None = None,
    private: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Publish a package in the model repository ``repo_id``, which is created if it does not exist.

    All files go into one commit on top of the newest revision; unchanged files make no commit. Files of an earlier
    package that this one does not have are deleted in the same commit, other files are left alone. Then the revision is
    reloaded in a fresh process, compared with the package, and tagged ``v1``, ``v2`` ... Publishing the same package
    again changes nothing, or finishes what the network has interrupted.

    Args:
        package_folder: A package, as ``build_package`` makes it.
        repo_id: ``USER/NAME``.
        token: Token with write access; None takes that of ``hf auth login``.
        endpoint: Address of the Hub; huggingface.co when None.
        private: Whether a repository that is created is private; one that exists keeps its visibility.
        overwrite: Whether to publish into a repository that holds something other than a package.

    Returns:
        ``repo_id``, ``revision`` (commit), ``tag``, ``url``, ``difference`` (largest between the logits of the
        published revision and those of the package).

    Raises:
        DeploymentError: If the package is damaged or incomplete, the name is not valid, there is no token or it may not
            write there, the repository holds something else, the Hub cannot be reached, or the published files differ.
    """
    from transformer_foundry.core.publishing.hub.verify_published import verify_published

    _check_name(repo_id)
    package = read_package(package_folder)
    require_whole(package)
    with translate_hub_errors(repo_id, package.folder):
        api = connect(repo_id, token, endpoint, package.folder)
        _refuse_reader(api, repo_id, package.folder)
        _refuse_other_type(api, repo_id)
        with_retries(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        revision = with_retries(lambda: _commit(api, repo_id, package, overwrite))
        difference = verify_published(package, repo_id, revision, token=str(api.token), endpoint=api.endpoint)
        tag = with_retries(lambda: _tag(api, repo_id, revision, package))
    return {
        "repo_id": repo_id,
        "revision": revision,
        "tag": tag,
        "url": f"{api.endpoint}/{repo_id}",
        "difference": difference,
    }


def connect(repo_id: str, token: str | None, endpoint: str | None, folder: Path | None = None) -> HfApi:
    """Return a client with a token.

    Raises:
        DeploymentError: If there is no token; with how to publish ``folder`` later.
    """
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    if not token:
        later = f" {publish_later(folder, repo_id)}" if folder else ""
        raise DeploymentError(
            f"There is no token for {repo_id}.",
            "Expected a Hugging Face token with write access.",
            f"Set HF_TOKEN in the environment (huggingface.co/settings/tokens).{later}",
        )
    limit_hub_waits()
    return HfApi(endpoint=endpoint, token=token, library_name="transformer-foundry")


def release_tags(api: HfApi, repo_id: str) -> dict[str, str]:
    """Return tag -> revision of the releases, ``v1`` first."""
    tags = with_retries(lambda: api.list_repo_refs(repo_id)).tags
    releases = {tag.name: tag.target_commit for tag in tags if _TAG.fullmatch(tag.name)}
    return dict(sorted(releases.items(), key=lambda item: int(item[0][1:])))


def next_tag(tags: Mapping[str, str]) -> str:
    """Return the name of the next release.

    Example:
        >>> next_tag({"v1": "a", "v7": "b"})
        'v8'
    """
    return f"v{max((int(name[1:]) for name in tags), default=0) + 1}"


def published_manifest(api: HfApi, repo_id: str, revision: str) -> dict[str, Any] | None:
    """Return the manifest of the package at a revision, None if it holds none."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = api.hf_hub_download(repo_id, MANIFEST_FILE, revision=revision)
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
    except (EntryNotFoundError, ValueError, RecursionError):
        return None
    is_ours = isinstance(manifest, dict) and {"format_version", "model", "files"} <= manifest.keys()
    return manifest if is_ours else None


def manifest_digest(api: HfApi, repo_id: str, revision: str) -> str | None:
    """Return the digest of the package at a revision, as ``Package.digest`` is; None if it holds none."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return sha256_of(Path(api.hf_hub_download(repo_id, MANIFEST_FILE, revision=revision)))
    except EntryNotFoundError:
        return None


def _check_name(repo_id: str) -> None:
    if not is_repo_id(repo_id):
        raise DeploymentError(
            f"{repo_id!r} cannot be the name of a model repository.",
            "Expected USER/NAME: letters, digits, '-', '_' and '.', no '--' or '..', not ending in '.git'.",
            "Set deployment.hub_repo, for example to alice/my-gpt.",
        )


def _refuse_reader(api: HfApi, repo_id: str, folder: Path) -> None:
    """Refuse a read-only token; fine-grained tokens do not report their rights and fail at the first write."""
    access = with_retries(api.whoami).get("auth", {}).get("accessToken", {})
    if access.get("role") == "read":
        raise DeploymentError(
            f"The token {access.get('displayName', '')!r} may only read.",
            f"Publishing to {repo_id} needs one with write access.",
            "Make one at huggingface.co/settings/tokens (type: write) and set HF_TOKEN to it. "
            f"{publish_later(folder, repo_id)}",
        )


def _refuse_other_type(api: HfApi, repo_id: str) -> None:
    if with_retries(lambda: api.repo_exists(repo_id)):
        return
    for kind in ("dataset", "space"):
        if with_retries(partial(api.repo_exists, repo_id, repo_type=kind)):
            raise DeploymentError(
                f"{repo_id} is a {kind} on the Hub.",
                "A model is published to a model repository, and the same name for both would mislead.",
                "Choose another name for deployment.hub_repo.",
            )


def _commit(api: HfApi, repo_id: str, package: Package, overwrite: bool) -> str:
    """Commit the package on top of the newest revision, and return the new revision."""
    head = api.repo_info(repo_id)
    present = {sibling.rfilename for sibling in head.siblings or []}
    earlier = published_manifest(api, repo_id, head.sha) if MANIFEST_FILE in present else None
    if earlier is None and not present <= _INITIAL_FILES and not overwrite:
        others = sorted(present - _INITIAL_FILES)
        raise DeploymentError(
            f"{repo_id} exists and holds something else than a package of Transformer Foundry: "
            f"{', '.join(others[:4])}{' ...' if len(others) > 4 else ''}.",
            "Expected a new repository, an empty one, or one that was published to from here.",
            "Choose another deployment.hub_repo, or set deployment.hub_overwrite=true: other files stay.",
        )
    paths = {name: package.folder / name for name in package_files(package)}
    step = package.manifest["training"]["step"]
    title = f"Publish {package.manifest['model']['name']}" + ("" if step is None else f" of step {step}")
    return commit_files(api, repo_id, paths, title, head, earlier)


def commit_files(
    api: HfApi,
    repo_id: str,
    paths: Mapping[str, Path],
    title: str,
    head: ModelInfo,
    earlier: Mapping[str, Any] | None,
) -> str:
    """Put the files of a package on top of a revision in one commit, and return the new revision.

    The client leaves out files that the Hub has already.

    Args:
        api: The client.
        repo_id: The repository.
        paths: Name in the repository -> local file.
        title: Title of the commit.
        head: The newest revision.
        earlier: Manifest of the package at ``head``: its files that are not in ``paths`` are deleted.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    present = {sibling.rfilename for sibling in head.siblings or []}
    stale = (present & set(earlier["files"] if earlier else ())) - set(paths)
    operations = [
        *(CommitOperationAdd(name, str(path)) for name, path in paths.items()),
        *(CommitOperationDelete(name) for name in sorted(stale)),
    ]
    return str(api.create_commit(repo_id, operations, commit_message=title, parent_commit=head.sha).oid)


def _tag(api: HfApi, repo_id: str, revision: str, package: Package) -> str:
    """Tag ``revision`` as the next release unless it is one, and return the tag."""
    tags = release_tags(api, repo_id)
    for name, target in tags.items():
        if target == revision:
            return name
    name = next_tag(tags)
    # If another process took the number, the Hub refuses (409) and the next attempt takes the number after it.
    api.create_tag(repo_id, tag=name, revision=revision, tag_message=package.manifest["model"]["name"])
    return name
