"""The parameters that can be searched, and the default space of each kind of model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.studies.tuning.space import Dimension, SearchSpace, parse_space
from transformer_foundry.core.training.options import CHANGEABLE, TrainingOptions

__all__ = ["DEFAULT_SPACES", "MODEL_PREFIX", "SEARCHABLE", "split_parameters", "training_space"]

MODEL_PREFIX = "model."
"""A dimension ``model.NAME`` is the value ``NAME`` of the model's ``config.json``."""

FIXED = CHANGEABLE | {"precision", "seed"}
"""Parameters of section ``training`` that decide length, device and schedule of saves, not what is learned."""

SEARCHABLE = tuple(field.name for field in dataclasses.fields(TrainingOptions) if field.name not in FIXED)

FIXED_BY_DATA = ("vocab_size", "max_seq_len", "seq_length", "max_position_embeddings", "n_positions", "block_size")
"""Values of the model's configuration that the prepared tokens depend on."""

_RATE = {"type": "float", "low": 2e-4, "high": 2e-2, "log": True}
_WARMUP = {"type": "float", "low": 0.0, "high": 0.3}
_DECAY = {"type": "float", "low": 1e-3, "high": 1.0, "log": True}

DEFAULT_SPACES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "decoder-only": {"learning_rate": _RATE, "warmup_ratio": _WARMUP, "weight_decay": _DECAY},
    # A masked model learns from one token in seven: the gradient is noisier, so that beta2 matters.
    "encoder-only": {
        "learning_rate": {**_RATE, "low": 1e-4, "high": 1e-2},
        "warmup_ratio": _WARMUP,
        "weight_decay": _DECAY,
        "beta2": {"type": "categorical", "choices": [0.95, 0.98, 0.999]},
    },
    "encoder-decoder": {
        "learning_rate": {**_RATE, "low": 1e-4, "high": 1e-2},
        "warmup_ratio": _WARMUP,
        "weight_decay": _DECAY,
        "label_smoothing": {"type": "categorical", "choices": [0.0, 0.1]},
    },
}
"""Around the defaults: the best learning rate of small transformers varies twentyfold with size and data."""


def training_space(
    values: Mapping[str, Any],
    base: TrainingOptions | None = None,
    *,
    kind: str = "decoder-only",
    config: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """Read the section ``tuning.space``.

    Args:
        values: The section; empty takes the space of ``kind`` in :data:`DEFAULT_SPACES`.
        base: The options of trials; their values are the configuration that is tried first.
        kind: Kind of the model.
        config: The model's configuration, for dimensions ``model.NAME``; None accepts any name.

    Raises:
        ParameterError: If a name or key is unknown, or training does not accept a value.
    """
    base = base or TrainingOptions()
    values = values or DEFAULT_SPACES[kind]
    defaults = {name: getattr(base, name) for name in SEARCHABLE} | _model_defaults(values, config)
    space = parse_space(values, defaults)
    for dimension in space.dimensions:
        if not dimension.name.startswith(MODEL_PREFIX):
            _check_accepted(dimension, base)
    return space


def split_parameters(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a configuration into training options and values of the model's configuration, without the prefix."""
    training = {name: value for name, value in parameters.items() if not name.startswith(MODEL_PREFIX)}
    model = {name.removeprefix(MODEL_PREFIX): value for name, value in parameters.items() if name not in training}
    return training, model


def _model_defaults(values: Mapping[str, Any], config: Mapping[str, Any] | None) -> dict[str, Any]:
    names = [str(name).removeprefix(MODEL_PREFIX) for name in values if str(name).startswith(MODEL_PREFIX)]
    for name in names:
        if name in FIXED_BY_DATA:
            raise ParameterError(
                f"tuning.space.{MODEL_PREFIX}{name} cannot be searched: the prepared tokens depend on it.",
                "Expected values of config.json that only the model depends on, such as its depth, width or dropout.",
                f"Remove tuning.space.{MODEL_PREFIX}{name}.",
            )
        if config is not None and name not in config:
            known = [key for key, value in config.items() if isinstance(value, int | float | str)]
            raise ParameterError(
                f"tuning.space.{MODEL_PREFIX}{name}: config.json has no {name}.{suggestion(name, known)}",
                f"It has: {', '.join(known) or 'nothing that can be searched'}.",
                f"Correct or remove tuning.space.{MODEL_PREFIX}{name}.",
            )
    return {f"{MODEL_PREFIX}{name}": (config or {}).get(name) for name in names}


def _check_accepted(dimension: Dimension, base: TrainingOptions) -> None:
    for value in dimension.extremes:
        try:
            dataclasses.replace(base, **{dimension.name: value})
        except ParameterError as err:
            raise ParameterError(
                f"tuning.space.{dimension.name} reaches {value!r}, which training refuses.",
                err.expected,
                f"Change tuning.space.{dimension.name} in conf/.",
            ) from err
