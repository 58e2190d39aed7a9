"""Store what a study's losses depend on, and refuse to continue it with other settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.base.nested import differences
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import Study

__all__ = ["describe_search", "refuse_differences"]

SETTINGS = "settings"


_NEW_OPTIONS = ("model_loss",)
"""Options that studies of earlier versions do not name."""


def describe_search(space: SearchSpace, options: TuningOptions, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that must not change within a study; budget, sampler and pruner may."""
    described = {"space": space.to_dict(), "max_steps": options.max_steps, **identity}
    as_stored: dict[str, Any] = json.loads(json.dumps(described))
    return as_stored


def _completed(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a study, with those of training that its version did not have yet as they are now."""
    now, before = settings.get("training"), stored.get("training")
    if not (isinstance(now, Mapping) and isinstance(before, Mapping)):
        return dict(stored)
    return {**stored, "training": {**{name: now[name] for name in _NEW_OPTIONS if name in now}, **before}}


def refuse_differences(study: Study, settings: Mapping[str, Any]) -> None:
    """Store ``settings`` with a new study; compare them with those of an existing one.

    Raises:
        TuningError: If they differ, with both values.
    """
    stored = study.user_attrs.get(SETTINGS)
    if stored is None:
        study.set_user_attr(SETTINGS, settings)
        return
    changes = [
        f"{name} was {_short(before)} and is {_short(now)}"
        for name, (before, now) in differences(_completed(stored, settings), settings).items()
    ]
    if changes:
        raise TuningError(
            f"The stored study does not match this search: {'; '.join(changes)}.",
            "Expected the same space, steps, model, data and training options: other losses cannot be compared.",
            "Restore the earlier values, or search under another name: --params run.name=NEW.",
        )


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
