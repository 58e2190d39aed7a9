"""Publish a package on the Hugging Face Hub: one commit, proven by reloading it, tagged, safe to repeat."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export.names import MANIFEST_FILE
from transformer_foundry.core.publishing.hub.errors import publishing_later, translate_hub_errors, with_retries
from transformer_foundry.core.publishing.options import is_repo_id
from transformer_foundry.core.publishing.package.layout import CARD_FILE
from transformer_foundry.core.publishing.package.package import Package, read_package, require_whole
from transformer_foundry.core.system.hub_client import limit_hub_waits

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["connect", "next_tag", "publish", "published_manifest", "release_tags"]

_TAG = re.compile(r"v(\d+)")
# What a repository holds before anybody has put anything into it.
_NOBODYS = (".gitattributes", CARD_FILE)


def publish(
    package_folder: str | Path,
    repo_id: str,
    *,
    token: str | None,
    endpoint: str | None = None,
    private: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Publish a package in the model repository ``repo_id``, which is made if it does not exist.

    All files go into one commit on top of the newest revision; files that are there already make no commit. Files of
    an earlier package that this one does not have are deleted in the same commit, other files are left alone. Then the
    revision is reloaded in a fresh process and compared with the package, and tagged ``v1``, ``v2`` ... Publishing the
    same again finds all that done; what the network has interrupted is finished.

    Args:
        package_folder: A package, as ``build_package`` makes it.
        repo_id: ``USER/NAME``.
        token: Token with write access; None takes that of ``hf auth login``.
        endpoint: Address of the Hub; huggingface.co when None.
        private: Whether the repository is private when it is made; one that exists stays what it is.
        overwrite: Whether to publish into a repository that holds something else than a package.

    Returns:
        ``repo_id``, ``revision`` (commit), ``tag``, ``url``, ``difference`` (largest between the logits of the
        published revision and those of the package).

    Raises:
        DeploymentError: If the package is damaged or not whole, the name is not valid, there is no token or it may not
            write there, the repository holds something else, the Hub cannot be reached, or what was published differs.
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
    """Return the client with a token.

    Raises:
        DeploymentError: If there is none; with how to publish ``folder`` later.
    """
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    if not token:
        later = f" {publishing_later(folder, repo_id)}" if folder else ""
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


def _check_name(repo_id: str) -> None:
    if not is_repo_id(repo_id):
        raise DeploymentError(
            f"{repo_id!r} cannot be the name of a model repository.",
            "Expected USER/NAME: letters, digits, '-', '_' and '.', no '--' or '..', not ending in '.git'.",
            "Set deployment.hub_repo, for example to alice/my-gpt.",
        )


def _refuse_reader(api: HfApi, repo_id: str, folder: Path) -> None:
    """Refuse a token that may only read, by its name; one whose rights are finely set is told by its first refusal."""
    access = with_retries(api.whoami).get("auth", {}).get("accessToken", {})
    if access.get("role") == "read":
        raise DeploymentError(
            f"The token {access.get('displayName', '')!r} may only read.",
            f"Publishing to {repo_id} needs one with write access.",
            "Make one at huggingface.co/settings/tokens (type: write) and set HF_TOKEN to it. "
            f"{publishing_later(folder, repo_id)}",
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
    """Make the commit on the newest revision; what is there already is left out by the client."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api.repo_info(repo_id)
    there = {sibling.rfilename for sibling in head.siblings or []}
    earlier = published_manifest(api, repo_id, head.sha) if MANIFEST_FILE in there else None
    if earlier is None and not there <= set(_NOBODYS) and not overwrite:
        strangers = sorted(there - set(_NOBODYS))
        raise DeploymentError(
            f"{repo_id} exists and holds something else than a package of Transformer Foundry: "
            f"{', '.join(strangers[:4])}{' ...' if len(strangers) > 4 else ''}.",
            "Expected a new repository, an empty one, or one that was published to from here.",
            "Choose another deployment.hub_repo, or set deployment.hub_overwrite=true: other files stay.",
        )
    local = [*package.manifest["files"], MANIFEST_FILE]
    stale = (there & set(earlier["files"] if earlier else ())) - set(local)
    operations = [
        *(CommitOperationAdd(name, str(package.folder / name)) for name in local),
        *(CommitOperationDelete(name) for name in sorted(stale)),
    ]
    step = package.manifest["training"]["step"]
    title = f"Publish {package.manifest['model']['name']}" + ("" if step is None else f" of step {step}")
    return api.create_commit(repo_id, operations, commit_message=title, parent_commit=head.sha).oid


def _tag(api: HfApi, repo_id: str, revision: str, package: Package) -> str:
    """Tag ``revision`` as the next release, if it is not a release yet."""
    tags = release_tags(api, repo_id)
    for name, target in tags.items():
        if target == revision:
            return name
    name = next_tag(tags)
    # A tag that somebody else made in between is refused (409); the next attempt takes the number after it.
    api.create_tag(repo_id, tag=name, revision=revision, tag_message=package.manifest["model"]["name"])
    return name
