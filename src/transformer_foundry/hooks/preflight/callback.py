"""Refuse a run that cannot succeed before its first node."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from kedro.io import SharedMemoryDataCatalog, SharedMemoryDataset
from kedro.runner import ParallelRunner
from kedro.utils import load_obj

from transformer_foundry.core.base.errors import DeploymentError, ParameterError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.publishing.options import DeploymentOptions
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.preflight.chosen_run import announce_run, keep_name, require_run
from transformer_foundry.hooks.preflight.folders import require_own_files
from transformer_foundry.hooks.preflight.inputs import require_inputs, require_versions
from transformer_foundry.hooks.preflight.outputs import require_outputs
from transformer_foundry.hooks.preflight.processes import require_alone
from transformer_foundry.hooks.preflight.sources import require_sources
from transformer_foundry.hooks.preflight.training import require_training
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.run_context.sections import parameters_named

__all__ = ["PreflightCallback"]


class PreflightCallback(Callback):
    """Checks that the data folder can be written, that inputs exist and that there is a token for publishing."""

    name = "The check before a run"
    is_required = True
    nesting = 15

    def check_run(self, context: RunContext) -> None:
        """Refuse a run that cannot succeed.

        Raises:
            ParameterError: If ``data_dir`` cannot be written, ParallelRunner was chosen, torchrun started several
                processes for what only one can run, or an entry of the catalog does not fit what it keeps.
            DataError: If the result of an earlier pipeline, or the version asked for, is missing; or a link leads out
                of a folder of the run.
            DeploymentError: If a package is to be published without a token.
        """
        with parameters_named(context.names):
            require_alone(context.pipeline_names)
            _check_runner(context)
            require_own_files(context)
            require_outputs(context)
            require_sources(context)
            require_training(context)
            require_run(context)
            require_versions(context)
            require_inputs(context)
            if context.publishes:
                _check_token(context.options(DeploymentOptions).hub_repo)
            _check_writable(context.data_dir)

    def on_run_start(self, context: RunContext) -> None:
        """Say which run it is, and take its name.

        Raises:
            CheckpointError: If another process has just taken it.
        """
        announce_run(context)
        keep_name(context)


def _check_runner(context: RunContext) -> None:
    """Refuse ParallelRunner if an entry belongs to one process, and its catalog with another runner.

    Kedro makes a catalog of this class for ParallelRunner; ``DATA_CATALOG_CLASS`` may be it too.
    """
    catalog = context.catalog
    if not isinstance(catalog, SharedMemoryDataCatalog):
        return
    if _is_parallel(context.runner):
        used = ((name, catalog.get(name)) for name in sorted(context.pipeline.datasets()))
        bound = [name for name, dataset in used if getattr(dataset, "_SINGLE_PROCESS", False)]
        if bound:
            entries = "entry belongs" if len(bound) == 1 else "entries belong"
            raise ParameterError(
                f"ParallelRunner uses several processes, but {len(bound)} {entries} to one: {', '.join(bound)}.",
                "Expected SequentialRunner or ThreadRunner: a run writes its checkpoints from the process that trains.",
                "Leave out --runner; to train on several GPUs start the command with torchrun.",
            )
        return
    shared = [
        name
        for name in sorted(context.pipeline.all_outputs())
        if isinstance(catalog.get(name, fallback_to_runtime_pattern=True), SharedMemoryDataset)
    ]
    if shared:
        raise ParameterError(
            f"DATA_CATALOG_CLASS in settings.py is {type(catalog).__name__}, which cannot keep {short_list(shared)} "
            "in memory with this runner.",
            "Expected DataCatalog: Kedro shares memory between processes for ParallelRunner only.",
            "Remove DATA_CATALOG_CLASS from settings.py.",
        )


def _is_parallel(runner: str) -> bool:
    """Return whether what Kedro records of a runner, ``str(runner)``, is that of a ParallelRunner or a subclass."""
    found = re.match(r"<([\w.]+) object at", runner)
    try:
        kind = load_obj(found[1]) if found else None
    except (AttributeError, ImportError, ValueError):  # a class within a function, or of a notebook
        return False
    return isinstance(kind, type) and issubclass(kind, ParallelRunner)


def _check_writable(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # Nothing is made in a folder that does not exist yet: the command may be refused for another reason.
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"x")
    except OSError as err:
        raise ParameterError(
            f"The folder {folder} cannot be written: {err.strerror or err}.",
            "All results are kept under data_dir.",
            "Free space, fix its permissions, or choose another folder with --params data_dir=FOLDER.",
        ) from err


def _check_token(hub_repo: str | None) -> None:
    if hub_repo is None or os.environ.get("HF_TOKEN"):
        return
    from huggingface_hub import get_token

    if not get_token():
        raise DeploymentError(
            f"deployment.hub_repo is {hub_repo!r}, but there is no Hugging Face token.",
            "Publishing needs a token with write access.",
            "Set HF_TOKEN, or huggingface: {token: ...} in conf/local/credentials.yml, or remove deployment.hub_repo; "
            "huggingface.co/settings/tokens makes one.",
        )
