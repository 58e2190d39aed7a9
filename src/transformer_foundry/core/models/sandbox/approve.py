"""Whose code an export is, and whether it may run: own folders may, what comes from outside needs the user's word."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.sandbox.trial_run import TRIAL_RUN_SECONDS, require_trial_run
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.trust import require_trusted

__all__ = ["approve"]


def approve(
    export: ModelSource,
    *,
    trust_code: bool = False,
    sha256: str | None = None,
    first_run_seconds: float = TRIAL_RUN_SECONDS,
    cache_dir: Path | None = None,
) -> ModelSource:
    """Return ``export`` ready to be built: with the user's word where it needs one, and tried in a process of its own.

    A digest that is given must be that of the export, whatever else is said. To run exactly what ``describe_export``
    has shown, give ``sha256=export.identity``.

    Args:
        export: As ``read_export`` returned it.
        trust_code: The user's word for whatever the source holds.
        sha256: The user's word for one content: ``ModelSource.identity``, 64 hexadecimal characters.
        first_run_seconds: Limit of the first run, in seconds.
        cache_dir: Where first runs are remembered; the user's cache when None.

    Raises:
        ModelError: If the digest is another, the word is missing, or the first run went beyond its limits.
    """
    if sha256 is not None and sha256.strip().lower() != export.identity:
        raise ModelError(
            f"model.sha256 is {sha256}, but '{export.source}' has {export.identity}.",
            "Expected the content that was trusted: it has changed since, or the digest is another's.",
            f"Read {export.model_file}, then set model.sha256 to the digest that it has now.",
        )
    admitted = dataclasses.replace(export, is_trusted=bool(export.is_local or trust_code or sha256))
    require_trusted(admitted)
    require_trial_run(admitted, seconds=first_run_seconds, cache_dir=cache_dir)
    return admitted
