"""Which training parameters can be searched, and the space that is searched when none is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.errors import ParameterError
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.tuning.space import SearchSpace, parse_space

__all__ = ["DEFAULT_SPACE", "SEARCHABLE", "training_space"]

SEARCHABLE = (
    "learning_rate",
    "warmup_ratio",
    "weight_decay",
    "min_lr_ratio",
    "lr_scheduler_type",
    "optimizer",
    "beta1",
    "beta2",
    "max_grad_norm",
    "label_smoothing",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)
"""Parameters of section ``training`` that change what is learnt; the others say how long, where and how often."""

DEFAULT_SPACE: Mapping[str, Mapping[str, Any]] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 2e-2, "log": True},
    "warmup_ratio": {"type": "float", "low": 0.0, "high": 0.2},
    "weight_decay": {"type": "float", "low": 1e-3, "high": 1.0, "log": True},
}
"""Around the defaults: the best learning rate of small transformers moves by a factor of twenty with size and data."""


def training_space(values: Mapping[str, Any], base: TrainingOptions | None = None) -> SearchSpace:
    """Read the section ``tuning.space``, whose names are parameters of section ``training``.

    Args:
        values: The section; empty takes :data:`DEFAULT_SPACE`.
        base: The options from which trials start; their values are the configuration that is tried first.

    Raises:
        ParameterError: If a name or key is unknown, or a value is none that training accepts.
    """
    base = base or TrainingOptions()
    space = parse_space(values or DEFAULT_SPACE, {name: getattr(base, name) for name in SEARCHABLE})
    for dimension in space.dimensions:
        for value in dimension.extremes:
            try:
                dataclasses.replace(base, **{dimension.name: value})
            except ParameterError as err:
                raise ParameterError(
                    f"tuning.space.{dimension.name} reaches {value!r}, which training refuses.",
                    err.expected,
                    f"Change tuning.space.{dimension.name} in conf/.",
                ) from err
    return space
