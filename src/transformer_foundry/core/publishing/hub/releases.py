"""List the releases of a repository, compare two, and restore one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DeploymentError, suggestion
from transformer_foundry.core.base.nested import differences
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.publishing.hub.errors import translate_hub_errors, with_retries
from transformer_foundry.core.publishing.hub.publish import (
    commit_files,
    connect,
    manifest_digest,
    published_manifest,
    release_tags,
)
from transformer_foundry.core.publishing.package.package import Package, read_package

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["compare_releases", "fetch_package", "is_published", "list_releases", "mark_release", "roll_back"]


def fetch_package(repo_id: str, revision: str = "main", *, token: str | None = None) -> Package:
    """Download a published package to the cache of the Hub's client, verify it, and return it.

    Raises:
        DeploymentError: If it cannot be reached, is no package, or a file differs from its sha256.
    """
    from huggingface_hub import snapshot_download

    with translate_hub_errors(repo_id, None):
        return read_package(with_retries(lambda: snapshot_download(repo_id, revision=revision, token=token)))


def is_published(repo_id: str, revision: str = "main", *, token: str | None = None) -> bool:
    """Return whether there is a package at a revision of a repository that the token may see.

    Raises:
        DeploymentError: If the Hub cannot be reached.
    """
    from huggingface_hub import file_exists

    with translate_hub_errors(repo_id, None):
        return bool(with_retries(lambda: file_exists(repo_id, MANIFEST_FILE, revision=revision, token=token)))


def list_releases(repo_id: str, *, token: str | None = None, endpoint: str | None = None) -> list[dict[str, Any]]:
    """Return ``tag``, ``revision``, ``model``, ``step``, ``metrics``, ``is_current`` of each release, ``v1`` first.

    A release is current if the newest revision holds the same package.
    """
    with translate_hub_errors(repo_id, None):
        api = connect(repo_id, token, endpoint)
        current = published_manifest(api, repo_id, "main")
        releases = []
        for tag, revision in release_tags(api, repo_id).items():
            manifest = published_manifest(api, repo_id, revision)
            releases.append({"tag": tag, "revision": revision, "is_current": manifest == current} | _shown(manifest))
    return releases


def compare_releases(
    repo_id: str, first: str, second: str, *, token: str | None = None, endpoint: str | None = None
) -> dict[str, tuple[Any, Any]]:
    """Return the differences of two releases, (first, second) by name: metrics, training options, data, files."""
    with translate_hub_errors(repo_id, None):
        api = connect(repo_id, token, endpoint)
        tags = release_tags(api, repo_id)
        manifests = [published_manifest(api, repo_id, _revision(repo_id, tags, tag)) or {} for tag in (first, second)]
    return differences(*map(_compared, manifests))


def roll_back(repo_id: str, tag: str, *, token: str | None = None, endpoint: str | None = None) -> str:
    """Make the newest revision hold the package of release ``tag`` again, in one commit; return that revision.

    Nothing is lost: the revisions in between stay, and files that belong to no package are left alone.

    Raises:
        DeploymentError: If there is no such release, or the token may not write.
    """
    with translate_hub_errors(repo_id, None):
        api = connect(repo_id, token, endpoint)
        revision = _revision(repo_id, release_tags(api, repo_id), tag)
        return with_retries(lambda: _restore(api, repo_id, tag, revision))


def mark_release(
    repo_id: str,
    alias: str,
    revision: str,
    package_sha256: str,
    *,
    token: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Move the tag ``alias`` (``production``, say) to ``revision``, which must hold the package with that digest.

    A registry that came from elsewhere can name any repository in which the user may write.

    Raises:
        DeploymentError: If the revision holds another package or none, or the Hub does not answer.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    with translate_hub_errors(repo_id, None):
        api = connect(repo_id, token, endpoint)
        if manifest_digest(api, repo_id, revision) != package_sha256:
            raise DeploymentError(
                f"revision {revision[:12]} of {repo_id} does not hold this package.",
                "Expected the release that the package was published as.",
                "Publish it again with 'kedro hub publish'.",
            )
        tags = {tag.name: tag.target_commit for tag in with_retries(lambda: api.list_repo_refs(repo_id)).tags}
        if tags.get(alias) == revision:
            return
        if alias in tags:
            with contextlib.suppress(RevisionNotFoundError):  # an earlier attempt deleted it, and its answer was lost
                with_retries(lambda: api.delete_tag(repo_id, tag=alias))
        with_retries(lambda: api.create_tag(repo_id, tag=alias, revision=revision, exist_ok=True))


def _restore(api: HfApi, repo_id: str, tag: str, revision: str) -> str:
    head = api.repo_info(repo_id)
    wanted = published_manifest(api, repo_id, revision)
    present = published_manifest(api, repo_id, head.sha)
    if wanted is None or wanted == present:
        return str(head.sha)
    names = [*wanted["files"], MANIFEST_FILE]
    paths = {name: Path(api.hf_hub_download(repo_id, name, revision=revision)) for name in names}
    return commit_files(api, repo_id, paths, f"Go back to {tag}", head, present)


def _revision(repo_id: str, tags: dict[str, str], tag: str) -> str:
    if tag not in tags:
        raise DeploymentError(
            f"{repo_id} has no release {tag!r}.{suggestion(tag, tags)}",
            f"Known: {', '.join(tags) or 'none'}.",
            f"See 'kedro hub versions {repo_id}'.",
        )
    return tags[tag]


def _shown(manifest: dict[str, Any] | None) -> dict[str, Any]:
    if manifest is None:
        return {"model": None, "step": None, "metrics": {}}
    evaluation = manifest["evaluation"]
    metrics = evaluation.get("test") or evaluation.get("validation") or {}
    return {"model": manifest["model"]["name"], "step": manifest["training"]["step"], "metrics": metrics}


def _compared(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a manifest in which two releases are compared."""
    compared: dict[str, Any] = {}
    for section in ("model", "training"):
        part = manifest.get(section, {})
        compared[section] = {key: value for key, value in part.items() if not isinstance(value, dict)}
        compared[section] |= part.get("options", {})
    compared["data"] = {"fingerprint": manifest.get("data", {}).get("fingerprint")}
    compared |= {split: manifest.get("evaluation", {}).get(split) or {} for split in ("validation", "test")}
    files = manifest.get("files", {})
    return compared | {"file": {name: entry["sha256"][:12] for name, entry in files.items()}}
