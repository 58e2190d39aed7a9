"""Nodes of the deployment pipeline."""

from __future__ import annotations

import os
from typing import Any

from transformer_foundry.core import export as core_export
from transformer_foundry.core import exports
from transformer_foundry.core.data.tokenizers import Tokenizer
from transformer_foundry.core.export.consistency import require_consistent
from transformer_foundry.core.export.options import DeploymentOptions
from transformer_foundry.core.exports.fetch import Export
from transformer_foundry.core.exports.options import ModelOptions

__all__ = ["make_package", "publish_package"]


def make_package(
    training_run: Any,
    model_export: Export,
    tokenizer: Tokenizer,
    validation_report: dict[str, Any],
    data_profile: dict[str, Any],
    evaluation: dict[str, Any],
    model: ModelOptions,
    deployment: DeploymentOptions,
) -> Any:
    """Return the verified package of the checkpoint with the lowest validation loss."""
    state = training_run.best()
    require_consistent(state, model_export, tokenizer, data_profile, evaluation, validation_report)
    adapter = exports.load_model(model_export, kind=model.kind, task=model.task, seed=state.options["seed"])
    return core_export.build_package(
        adapter,
        model_export,
        tokenizer,
        training_state=state,
        evaluation=evaluation,
        data_profile=data_profile,
        validation_report=validation_report,
        run_manifest=training_run.manifest,
        options=deployment,
    )


def publish_package(model_package: Any, deployment: DeploymentOptions) -> dict[str, Any]:
    """Return where the package was published; nothing is published unless ``deployment.hub_repo`` is set."""
    core_export.require_whole(model_package)
    if deployment.hub_repo is None:
        return {"published": False}
    return {"published": True} | core_export.publish(
        model_package.folder,
        deployment.hub_repo,
        token=os.environ.get("HF_TOKEN"),
        private=deployment.hub_private,
        overwrite=deployment.hub_overwrite,
    )
