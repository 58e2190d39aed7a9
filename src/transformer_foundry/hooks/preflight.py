"""Refuse a run that cannot succeed before its first node."""

from __future__ import annotations

import os
from pathlib import Path

from kedro.framework.project import pipelines
from kedro.io import MemoryDataset

from transformer_foundry.core.base.errors import DataError, DeploymentError, ParameterError
from transformer_foundry.core.files.atomic import check_writable
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.progress import PUBLISHING_NODE
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["PreflightCallback"]


class PreflightCallback(Callback):
    """Checks that the data folder can be written, that inputs exist and that there is a token for publishing."""

    name = "The check before a run"
    is_required = True

    def on_run_start(self, context: RunContext) -> None:
        """Refuse a run that cannot succeed.

        Raises:
            ParameterError: If ``data_dir`` cannot be written.
            DataError: If the result of an earlier pipeline is missing.
            DeploymentError: If a package is to be published without a token.
        """
        _check_writable(context.data_dir)
        _check_inputs(context)
        if any(node.name == PUBLISHING_NODE for node in context.pipeline.nodes):
            _check_token(context.options(DeploymentOptions).hub_repo)


def _check_writable(folder: Path) -> None:
    try:
        check_writable(folder)
    except OSError as err:
        raise ParameterError(
            f"The folder {folder} cannot be written: {err.strerror or err}.",
            "All results are kept under data_dir.",
            "Free space, fix its permissions, or choose another folder with --params data_dir=FOLDER.",
        ) from err


def _check_inputs(context: RunContext) -> None:
    """Refuse a pipeline that reads what another pipeline has not made yet.

    What no pipeline makes may be missing: the entries ``previous_*`` of results that are reused.
    """
    catalog = context.catalog
    named = {name: pipeline for name, pipeline in pipelines.items() if name != "__default__"}
    producers = {entry: name for name, pipeline in named.items() for entry in pipeline.all_outputs()}
    inputs = sorted(context.pipeline.inputs() & producers.keys())
    kept = [entry for entry in inputs if not isinstance(catalog.get(entry), MemoryDataset)]
    if missing := [entry for entry in kept if not catalog.exists(entry)]:
        needed = {producers[entry] for entry in missing}
        names = [name for name in named if name in needed]
        raise DataError(
            f"Missing for this run: {', '.join(missing)}.",
            f"Made by the pipeline{'s' if len(names) > 1 else ''} {', '.join(names)}, with the same run.name.",
            f"Run 'kedro run --pipelines {','.join(names)}' first, with the same --params.",
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
