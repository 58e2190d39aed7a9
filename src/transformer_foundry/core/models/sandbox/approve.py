"""Approve the code of an export: local folders are trusted, external code needs the user's approval."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.options import TRIAL_RUN_SECONDS
from transformer_foundry.core.models.sandbox.trial_run import require_trial_run
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.trust import require_trusted

__all__ = ["approve", "check_approval"]


def approve(
    export: ModelSource,
    *,
    trust_code: bool = False,
    sha256: str | None = None,
    first_run_seconds: float = TRIAL_RUN_SECONDS,
    cache_dir: Path | None = None,
) -> ModelSource:
    """Return ``export`` ready to be built: approved if it needs approval, and tried once in a separate process.

    A ``sha256`` must be that of the export, even with ``trust_code``. To approve exactly what ``describe_export`` has
    shown, pass ``sha256=export.identity``.

    Args:
        export: As ``read_export`` returned it.
        trust_code: Approve any content of the source.
        sha256: Approve one content: ``ModelSource.identity``, 64 hexadecimal characters.
        first_run_seconds: Time limit of the trial run, in seconds.
        cache_dir: Where the results of trial runs are cached; None uses the user's cache.

    Raises:
        ModelError: If the digest differs, the approval is missing, or the trial run exceeds its limits.
    """
    approved = check_approval(export, trust_code=trust_code, sha256=sha256)
    require_trial_run(approved, seconds=first_run_seconds, cache_dir=cache_dir)
    return approved


def check_approval(export: ModelSource, *, trust_code: bool = False, sha256: str | None = None) -> ModelSource:
    """Return ``export`` marked as approved; its code does not run.

    Raises:
        ModelError: If the digest differs or the approval is missing.
    """
    if sha256 is not None and sha256.strip().lower() != export.identity:
        raise ModelError(
            f"model.sha256 is {sha256}, but the digest of '{export.source}' is {export.identity}.",
            "Expected the approved content: it has changed since, or the digest belongs to another export.",
            f"Read {export.model_file}, then approve this code: model.sha256={export.identity}.",
        )
    approved = dataclasses.replace(export, is_trusted=bool(export.is_local or trust_code or sha256))
    require_trusted(approved)
    return approved
