"""Encode configurations as points of the unit cube, and generate new ones to choose among."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transformer_foundry.core.studies.tuning.space import Dimension, SearchSpace

__all__ = ["candidates", "categorical", "encode", "key_of", "spread_out"]

ENUMERATED = 2000
"""Spaces with up to this many configurations are enumerated."""

N_RANDOM = 700
N_NEAR = 60
"""Candidates near each of the best configurations, at each of the scales below."""
SCALES = (0.2, 0.05)


def encode(space: SearchSpace, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the configurations as points.

    Returns:
        (n, D) in [0, 1], one column for each dimension; NaN where a configuration does not have it.
    """
    rows = [
        [
            dimension.to_unit(values[dimension.name]) if dimension.name in values else np.nan
            for dimension in space.dimensions
        ]
        for values in configurations
    ]
    return np.array(rows, dtype=float).reshape(len(rows), len(space.dimensions))


def categorical(space: SearchSpace) -> NDArray[np.bool_]:
    """Return (D,) bool: the dimensions whose values have no order."""
    return np.array([not dimension.is_ordered for dimension in space.dimensions])


def key_of(configuration: Mapping[str, Any]) -> str:
    """Return a string that is equal for equal configurations."""
    return json.dumps(dict(configuration), sort_keys=True)


def spread_out(space: SearchSpace, count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return up to ``count`` different configurations, a Latin hypercube: each dimension is covered evenly."""
    positions = [(rng.permutation(count) + rng.random(count)) / count for _ in space.dimensions]
    return _distinct(_at(space, point) for point in zip(*positions, strict=True))


def candidates(
    space: SearchSpace, tried: Iterable[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return configurations to choose among, none of them in ``tried``: all of a small space, otherwise a sample.

    Args:
        space: The space.
        tried: Configurations to leave out.
        best: Good configurations; a sample has more points near them.
        rng: Random numbers of the sample.
    """
    known = {key_of(configuration) for configuration in tried}
    found = _all_of(space) if _size(space) <= ENUMERATED else _sample(space, best, rng)
    return [configuration for configuration in found if key_of(configuration) not in known]


def _size(space: SearchSpace) -> float:
    return float(np.prod([float(dimension.n_levels or np.inf) for dimension in space.dimensions]))


def _all_of(space: SearchSpace) -> list[dict[str, Any]]:
    levels = [_levels(dimension) for dimension in space.dimensions]
    names = [dimension.name for dimension in space.dimensions]
    points = (dict(zip(names, values, strict=True)) for values in itertools.product(*levels))
    return _distinct(space.complete(lambda dimension, point=point: point[dimension.name]) for point in points)  # type: ignore[misc]


def _levels(dimension: Dimension) -> Sequence[Any]:
    if dimension.type == "categorical":
        return dimension.choices
    low, high = dimension.bounds
    return range(int(low), int(high) + 1)


def _sample(space: SearchSpace, best: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    n_dims = len(space.dimensions)
    points = [rng.random((N_RANDOM, n_dims))]
    # A dimension that a good configuration does not have is drawn at random for its neighbours.
    for center in encode(space, best):
        for scale in SCALES:
            moved = np.where(np.isnan(center), rng.random((N_NEAR, n_dims)), center)
            # Some dimensions change and the others stay: the best is often one parameter away.
            moves = rng.random((N_NEAR, n_dims)) < rng.choice([1 / n_dims, 0.5, 1.0], (N_NEAR, 1))
            points.append(np.clip(moved + moves * rng.normal(0, scale, (N_NEAR, n_dims)), 0, 1))
    return _distinct(_at(space, point) for point in np.concatenate(points))


def _at(space: SearchSpace, point: Sequence[float]) -> dict[str, Any]:
    positions = {dimension.name: float(position) for dimension, position in zip(space.dimensions, point, strict=True)}
    return space.complete(lambda dimension: dimension.from_unit(positions[dimension.name]))


def _distinct(configurations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({key_of(configuration): configuration for configuration in configurations}.values())
