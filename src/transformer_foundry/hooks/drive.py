"""Drive: checkpoints are copied to ``drive.folder`` in the background, and restored from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from transformer_foundry.core.options import parse_options
from transformer_foundry.hooks.options import DriveOptions
from transformer_foundry.hooks.rank import is_main_process

if TYPE_CHECKING:
    from transformer_foundry.hooks.mirror import Mirror

__all__ = ["DriveHooks"]

_log = logging.getLogger(__name__)


class DriveHooks:
    """Keeps a copy of the run's checkpoints in ``<drive.folder>/<run.name>``; without that option it does nothing."""

    def __init__(self) -> None:
        self._parameters: Mapping[str, Any] = {}
        self._mirror: Mirror | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Restore the newest checkpoint where the copy has a newer one than the run's folder.

        Raises:
            CheckpointError: If the run's folder has no intact checkpoint, and the copy cannot be read or written or has
                only damaged ones.
        """
        self._finish()
        options = parse_options(DriveOptions, self._parameters.get("drive"), "drive")
        uses_run = not pipeline.datasets().isdisjoint({"previous_run", "training_run"})
        if options.folder is None or not uses_run or not is_main_process():
            return
        from transformer_foundry.hooks.mirror import Mirror

        run: Any = catalog.get("training_run")
        copy_folder = Path(options.folder).expanduser() / self._parameters["run"]["name"]
        self._mirror = Mirror(run.folder, copy_folder)
        restored = self._mirror.restore()
        if restored is not None:
            _log.info(restored)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Have a new checkpoint copied, and at the start what the last session did not come to copy."""
        if self._mirror is None or dataset_name != "training_run":
            return
        from transformer_foundry.core.training.records import Checkpoint, Started

        if isinstance(data, Started | Checkpoint):
            self._mirror.request()

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Wait for the last copy."""
        self._finish()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Wait for the last copy: what was saved before the error is worth keeping."""
        self._finish()

    def _finish(self) -> None:
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.finish()
