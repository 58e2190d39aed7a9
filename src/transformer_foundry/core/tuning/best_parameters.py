"""Training with what a search has found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.errors import TuningError
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["use_best_parameters"]


def use_best_parameters(options: TrainingOptions, best_parameters: Mapping[str, Any] | None) -> TrainingOptions:
    """Return ``options`` with the values that the search found, if ``options.use_best`` asks for them.

    Args:
        options: The training options.
        best_parameters: ``parameters`` and ``loss`` of the best trial; None if there was no search.

    Raises:
        TuningError: If they are asked for and there are none.
    """
    if not options.use_best:
        return options
    if best_parameters is None:
        raise TuningError(
            "training.use_best is true, but no search has been made for this run.",
            "It takes the values that the tuning pipeline found under the same run.name.",
            "Run 'kedro run --pipelines tuning' first, or leave training.use_best out.",
        )
    return dataclasses.replace(options, **best_parameters["parameters"])
