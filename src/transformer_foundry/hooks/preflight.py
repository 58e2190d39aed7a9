"""What can be known to fail is refused before the first node runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from transformer_foundry.core.base.errors import DataError, DeploymentError, ParameterError
from transformer_foundry.core.files.atomic import check_writable

__all__ = ["PreflightHooks"]

_PRODUCERS = {
    "validation_report": "validation",
    "tokenizer": "data_engineering",
    "token_splits": "data_engineering",
    "data_profile": "data_engineering",
    "training_run": "training",
    "evaluation": "training",
    "samples": "training",
    "study": "tuning",
}
"""Catalog entry -> the pipeline that makes it; entries that may be missing are not listed."""


class PreflightHooks:
    """Checks that inputs exist, the data folder can be written and a token for publishing is there."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Refuse a run that cannot end well.

        Raises:
            ParameterError: If ``data_dir`` cannot be written.
            DataError: If the result of an earlier pipeline is missing.
            DeploymentError: If a package is to be published without a token.
        """
        _check_writable(Path(self._parameters["data_dir"]))
        _check_inputs(pipeline, catalog)
        if "hub_publication" in pipeline.all_outputs():
            _check_token(self._parameters["deployment"].get("hub_repo"))


def _check_writable(folder: Path) -> None:
    try:
        check_writable(folder)
    except OSError as err:
        raise ParameterError(
            f"The folder {folder} cannot be written: {err.strerror or err}.",
            "Everything that is made is kept under data_dir.",
            "Free space, mend its permissions, or choose another with --params data_dir=FOLDER.",
        ) from err


def _check_inputs(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    missing = [name for name in sorted(pipeline.inputs()) if name in _PRODUCERS and not catalog.exists(name)]
    if missing:
        order = ["validation", "data_engineering", "training", "tuning"]
        needed = sorted({_PRODUCERS[name] for name in missing}, key=order.index)
        raise DataError(
            f"Missing for this run: {', '.join(missing)}.",
            f"Made by the pipeline{'s' if len(needed) > 1 else ''} {', '.join(needed)}, with the same run.name.",
            f"Run 'kedro run --pipelines {','.join(needed)}' first, with the same --params.",
        )


def _check_token(hub_repo: str | None) -> None:
    if hub_repo is None or os.environ.get("HF_TOKEN"):
        return
    from huggingface_hub import get_token

    if not get_token():
        raise DeploymentError(
            f"deployment.hub_repo is {hub_repo!r}, but there is no Hugging Face token.",
            "Publishing needs a token with write access.",
            "Set HF_TOKEN in the environment (huggingface.co/settings/tokens), or remove deployment.hub_repo.",
        )
