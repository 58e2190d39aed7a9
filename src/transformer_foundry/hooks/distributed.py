"""Several processes of one training, started by torchrun: the first speaks and writes, the others only compute."""

from __future__ import annotations

import logging
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, CatalogProtocol
from kedro.pipeline import Pipeline

from transformer_foundry.core.system.process import is_main_process

__all__ = ["WorkerHooks"]


class WorkerHooks:
    """Lets the processes other than the first keep nothing and say nothing but errors."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Replace every output by one that forgets; a MemoryDataset would copy each checkpoint."""
        if is_main_process():
            return
        logging.disable(logging.WARNING)
        for name in pipeline.outputs():
            catalog[name] = _Forgotten()


class _Forgotten(AbstractDataset[Any, None]):
    """Keeps nothing."""

    def save(self, data: Any) -> None:
        """Drop ``data``."""

    def load(self) -> None:
        """Return nothing."""

    def _describe(self) -> dict[str, Any]:
        return {}
