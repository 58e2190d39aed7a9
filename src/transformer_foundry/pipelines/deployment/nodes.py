"""Nodes of the deployment pipeline."""

from __future__ import annotations

from typing import Any

from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.core import models
from transformer_foundry.core import publishing as core_publishing
from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.provenance import MADE_FROM
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.core.publishing.package.build import package_origin
from transformer_foundry.core.publishing.package.manifest import tracking_url
from transformer_foundry.core.publishing.package.package import Package
from transformer_foundry.core.publishing.package.provenance import require_consistent
from transformer_foundry.core.publishing.registry.registry import Registration, Registry
from transformer_foundry.core.training.checkpointing.training_run import TrainingRun
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK
from transformer_foundry.pipelines.reuse import EarlierResults, earlier_of, is_up_to_date

__all__ = ["make_package", "note_publication", "publish_package", "register_package"]


def make_package(
    training_run: TrainingRun,
    model_export: ModelSource,
    tokenizer: Tokenizer,
    token_splits: TokenSplits,
    validation_report: dict[str, Any],
    data_profile: dict[str, Any],
    evaluation: dict[str, Any],
    model: ModelOptions,
    deployment: DeploymentOptions,
    earlier_results: EarlierResults,
) -> Package:
    """Build and verify the package of the checkpoint with the lowest validation loss; keep one of the same parts."""
    model = as_options(ModelOptions, model, "model")
    deployment = as_options(DeploymentOptions, deployment, "deployment")
    run_manifest = training_run.manifest | {"tracking_url": tracking_url(training_run.folder)}
    origin = package_origin(
        training_run.best_origin(), evaluation, data_profile, validation_report, run_manifest, deployment
    )
    (earlier,) = earlier_of(earlier_results)
    if isinstance(earlier, Package):
        what = f"{counted(len(earlier.manifest['formats']), 'format')} of step {origin.get('step')}"
        if is_up_to_date(earlier.manifest, origin, "deployment", what, earlier.folder / MANIFEST_FILE):
            return earlier
    state = training_run.require_best()
    require_consistent(state, model_export, tokenizer, data_profile, evaluation, validation_report)
    with RANDOM_LOCK.hold():
        adapter = models.load_model(model_export, kind=model.kind, task=model.task, seed=state.options["seed"])
        return core_publishing.build_package(
            adapter,
            model_export,
            tokenizer,
            training_state=state,
            evaluation=evaluation,
            data_profile=data_profile,
            validation_report=validation_report,
            run_manifest=run_manifest,
            options=deployment,
            splits=token_splits,
        )


def register_package(
    model_package: Package, training_run: TrainingRun, run: RunOptions, deployment: DeploymentOptions
) -> Registration:
    """Return the registration of the package: its model name and its lineage."""
    run, deployment = as_options(RunOptions, run, "run"), as_options(DeploymentOptions, deployment, "deployment")
    core_publishing.require_whole(model_package)
    environment, sessions = training_run.manifest.get("environment", {}), training_run.manifest.get("sessions", [])
    lineage = {
        "run": run.name,
        # A run that was deleted leaves its name to another one.
        "run_started_at": sessions[0].get("started_at") if sessions else None,
        "git_revision": environment.get("git_revision"),
        "tracking_url": model_package.manifest["training"].get("tracking_url"),
    }
    return Registration(model_package, deployment.model_name, lineage)


def publish_package(model_package: Package, model_registry: Registry, deployment: DeploymentOptions) -> dict[str, Any]:
    """Publish the package if ``deployment.hub_repo`` is set; return where."""
    deployment = as_options(DeploymentOptions, deployment, "deployment")
    version = model_registry.of(model_package, deployment.model_name)
    registered = {"model": version.name, "version": version.version, MADE_FROM: {"package": version.package_sha256}}
    if deployment.hub_repo is None:
        return {"published": False} | registered
    return (
        {"published": True}
        | registered
        | core_publishing.publish(
            model_package.folder,
            deployment.hub_repo,
            token=None,  # the client of the Hub finds it: HF_TOKEN, a secret of Colab, or that of hf auth login
            private=deployment.hub_private,
            overwrite=deployment.hub_overwrite,
        )
    )


def note_publication(
    model_package: Package, hub_publication: dict[str, Any], deployment: DeploymentOptions
) -> Registration:
    """Return the registration of the package with its publication."""
    deployment = as_options(DeploymentOptions, deployment, "deployment")
    return Registration(model_package, deployment.model_name, publication=hub_publication)
