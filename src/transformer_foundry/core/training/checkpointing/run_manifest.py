"""What is written down about a run, so that one can say later how it came about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from transformer_foundry.core.base.secrets import redact_values
from transformer_foundry.core.system.environment import describe_environment
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["MANIFEST_FORMAT_VERSION", "describe_run"]

MANIFEST_FORMAT_VERSION = 1


def describe_run(
    options: TrainingOptions,
    identity: Mapping[str, str],
    *,
    step: int,
    total_steps: int,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest of a run as this session sees it; its only session is the one that begins now.

    Args:
        options: The training options.
        identity: Digests of what the run belongs to.
        step: Updates done before this session.
        total_steps: Updates of the whole run.
        extra: More entries; ``parameters`` (sections by name) and ``seeds`` are merged, others are added.
    """
    extra = dict(extra or {})
    parameters = dict(extra.pop("parameters", {}))
    parameters["training"] = {**parameters.get("training", {}), **dataclasses.asdict(options)}
    environment = describe_environment()
    return {
        "format_version": MANIFEST_FORMAT_VERSION,
        "identity": dict(identity),
        # The address of data may hold a password.
        "parameters": redact_values(parameters),
        "seeds": {"training": options.seed, **extra.pop("seeds", {})},
        "total_steps": total_steps,
        "environment": environment,
        "sessions": [
            {
                "step": step,
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": environment["command"],
                "git_revision": environment["git_revision"],
            }
        ],
        **extra,
    }
