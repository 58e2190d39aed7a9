"""What is wrong with the files of a registered version, and whether they can be made again."""

from __future__ import annotations

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.run_paths import runs_folder
from transformer_foundry.core.publishing.package.package import read_package
from transformer_foundry.core.publishing.registry.model_version import ModelVersion
from transformer_foundry.core.training.checkpointing.directory import best_origin

__all__ = ["find_damage", "remedy_of_damage", "require_undamaged"]


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
    best = best_origin(runs_folder(version.folder.parents[2]) / str(run)) if run else {}
    weights = version.made_from.get("weights")
    if best and weights is not None and best.get("weights") == weights:
        return (
            f"Deploy the run {run} again, with its settings: 'kedro run --pipelines deployment'; a package with the "
            "same bytes replaces them."
        )
    releases = [f"{where['repo_id']} {where['tag']} on the Hub" for where in version.publications]
    left = f"its release remains: {', '.join(releases)}" if releases else "its metrics remain, no weights"
    return f"The best checkpoint of the run {run} is not that of step {step} any more: this version is lost; {left}."
