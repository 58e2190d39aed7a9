"""What is wrong with the files of a registered version, and whether they can be made again."""

from __future__ import annotations

import json

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.run_paths import runs_folder
from transformer_foundry.core.publishing.package.package import CARD_FILE, read_package
from transformer_foundry.core.publishing.registry.model_version import ModelVersion
from transformer_foundry.core.training.checkpointing.directory import best_origin

__all__ = ["find_damage", "is_incomplete", "remedy_of_damage", "require_undamaged"]


def is_incomplete(version: ModelVersion) -> bool:
    """Return whether a file of a version is missing or has another size; nothing is hashed."""
    try:
        files = json.loads((version.folder / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
        sizes = {name: (version.folder / name).stat().st_size for name in files if name != CARD_FILE}
        return any(size != files[name].get("size_bytes", size) for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return True


def find_damage(version: ModelVersion) -> DeploymentError | None:
    """Return what is wrong with the files of a version, each of which is read and hashed; None if nothing is."""
    try:
        read_package(version.folder)
    except DeploymentError as err:
        return err
    return None


def require_undamaged(version: ModelVersion) -> None:
    """Refuse a version whose files are missing or damaged.

    Raises:
        DeploymentError: Saying whether its run can be deployed again, or that the version is lost.
    """
    damage = find_damage(version)
    if damage is not None:
        raise DeploymentError(
            f"{version.name}:{version.version} is damaged: {damage.problem}",
            "Expected the files that were registered.",
            remedy_of_damage(version),
        ) from damage


def remedy_of_damage(version: ModelVersion) -> str:
    """Return how the files of a damaged version come back, or that they are lost and what remains of it."""
    run, step = version.lineage.get("run"), version.lineage.get("step")
    folder = runs_folder(version.folder.parents[2]) / str(run)
    if not run or not folder.is_dir():
        return (
            "Deploy its run again where its checkpoints are, with its settings: 'kedro run --pipelines deployment'; a "
            "package with the same bytes replaces them."
        )
    best = best_origin(folder)
    weights = version.made_from.get("weights")
    if best and weights is not None and best.get("weights") == weights:
        return (
            f"Deploy the run {run} again, with its settings: 'kedro run --pipelines deployment'; a package with the "
            "same bytes replaces them."
        )
    releases = [f"{where['repo_id']} {where['tag']} on the Hub" for where in version.publications]
    left = f"its release remains: {', '.join(releases)}" if releases else "its metrics remain, no weights"
    return f"The best checkpoint of the run {run} is not that of step {step} any more: this version is lost; {left}."
