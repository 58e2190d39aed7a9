"""A Gaussian process over (configuration, share of the training done), which predicts final losses.

The model of a standardized log loss ``y`` of a configuration ``x`` after a share ``r`` of its training is

    y(x, r) = c + m_r + f(x) + (1 - r) g(x) + noise(r)

``c + f(x)`` is the final loss; ``m_r`` and ``g`` are the distance to it. ``f`` and ``g`` have one kernel: a
share ``a`` of it is a mean over dimensions (effects of single parameters), the rest a product (interactions), Matern
5/2 each. With few observations the hyper-parameters are uncertain, so they are not optimized: many
are drawn around a prior, the likeliest are refined, and predictions average over those that are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "LearningCurveGP"]

Floats = NDArray[np.floating[Any]]

N_DRAWS = 48
"""Hyper-parameters drawn in each round."""

N_KEPT = 8
"""Likeliest draws that predictions average over."""

N_ROUNDS = 4
"""The first round draws from the prior, each further one around those kept."""

OFFSET_VARIANCE = 4.0
STAGE_VARIANCE = 1.0
JITTER = 1e-6

REFINE_SCALE = 0.35
"""Standard deviation of a refining draw, as a share of the prior's."""

PRIOR_WEIGHT = 0.5
"""Share of the log prior that counts beside the log likelihood."""

# Of the prior: log length in units of a dimension's range, logit of the additive share, log standard deviations of f,
# of g, of the noise at the end and of the further noise at the start. Losses are standardized before.
LENGTH = (math.log(1.2), 0.8)
ADDITIVE = (2.0, 1.0)
FINAL = (math.log(1.0), 0.5)
GAP = (math.log(1.0), 0.6)
NOISE = (math.log(0.02), 0.7)
EARLY_NOISE = (math.log(0.3), 0.6)


@dataclass(frozen=True)
class _Data:
    """Observations and the factorized covariance of each of H kept draws."""

    features: Floats
    shares: Floats
    values: Floats
    draws: Floats
    weights: Floats
    factor: Floats
    whitened: Floats


class LearningCurveGP:
    """Predicts the final losses of trainings from losses observed so far.

    Args:
        is_categorical: (D,) bool; values of such a dimension have no order.
        rng: Random numbers of the hyper-parameter draws.
    """

    def __init__(self, is_categorical: NDArray[np.bool_], rng: np.random.Generator) -> None:
        self._is_categorical, self._rng = np.asarray(is_categorical, dtype=bool), rng
        self._n_dims = len(self._is_categorical)
        priors = [*[LENGTH] * self._n_dims, ADDITIVE, FINAL, GAP, NOISE, EARLY_NOISE]
        self._mean, self._scale = (np.array(column) for column in zip(*priors, strict=True))
        self._data: _Data | None = None

    def fit(self, features: Floats, shares: Floats, values: Floats) -> None:
        """Condition on observations.

        Args:
            features: (n, D) in [0, 1]; NaN where a dimension does not apply.
            shares: (n,) share of the training done, in (0, 1].
            values: (n,) standardized losses.
        """
        distance = self._distance(features, features)
        kept = np.empty((0, len(self._mean)))
        for _ in range(N_ROUNDS):
            draws = np.concatenate([kept, self._draw(kept, N_DRAWS)])
            factor, whitened, score = self._factorize(distance, shares, values, draws)
            order = np.argsort(-score)[:N_KEPT]
            kept = draws[order]
        weights = np.exp(score[order] - score[order[0]])
        self._data = _Data(features, shares, values, kept, weights / weights.sum(), factor[order], whitened[order])

    def condition_on_predictions(self, features: Floats) -> None:
        """Condition on the predictions for running trainings, so that different ones are chosen beside them.

        Args:
            features: (k, D) of the running trainings.
        """
        data = self._data
        assert data is not None, "fit comes first"
        mean, _, weights = self.predict_final(features)
        values = np.concatenate([data.values, weights @ mean])
        everywhere = np.concatenate([data.features, features])
        shares = np.concatenate([data.shares, np.ones(len(features))])
        distance = self._distance(everywhere, everywhere)
        factor, whitened, _ = self._factorize(distance, shares, values, data.draws)
        self._data = _Data(everywhere, shares, values, data.draws, weights, factor, whitened)

    def predict_final(self, features: Floats) -> tuple[Floats, Floats, Floats]:
        """Predict the losses at the end of training.

        Args:
            features: (m, D).

        Returns:
            Means (H, m) and standard deviations (H, m) under each kept draw, and the draws' weights (H,).
        """
        data = self._data
        assert data is not None, "fit comes first"
        cross = self._covariance(
            self._distance(data.features, features), data.shares, np.ones(len(features)), data.draws
        )
        solved = np.linalg.solve(data.factor, cross)
        mean = (solved * data.whitened[..., None]).sum(1)
        variance = np.exp(2 * data.draws[:, self._n_dims + 1])[:, None] + OFFSET_VARIANCE - (solved**2).sum(1)
        return mean, np.sqrt(np.maximum(variance, 1e-10)), data.weights

    def _draw(self, around: Floats, count: int) -> Floats:
        noise = self._rng.standard_normal((count, len(self._mean)))
        if not len(around):
            return self._mean + self._scale * noise
        return around[np.arange(count) % len(around)] + REFINE_SCALE * self._scale * noise

    def _factorize(
        self, distance: Floats, shares: Floats, values: Floats, draws: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return Cholesky factors (H, n, n), whitened values (H, n) and log posterior up to a constant (H,)."""
        covariance = self._covariance(distance, shares, shares, draws)
        noise = np.exp(2 * draws[:, -2])[:, None] + np.exp(2 * draws[:, -1])[:, None] * (1 - shares) ** 2
        diagonal = np.arange(len(values))
        covariance[:, diagonal, diagonal] += noise + JITTER
        factor: Floats = np.linalg.cholesky(covariance)
        columns = np.broadcast_to(values[:, None], (len(draws), len(values), 1))
        whitened: Floats = np.linalg.solve(factor, columns)[..., 0]
        likelihood = -0.5 * (whitened**2).sum(1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
        prior = -0.5 * (((draws - self._mean) / self._scale) ** 2).sum(1)
        score: Floats = likelihood + PRIOR_WEIGHT * prior
        return factor, np.asarray(whitened), score

    def _distance(self, left: Floats, right: Floats) -> Floats:
        """Return the distance in each dimension (D, n, m): 1 between categories.

        A configuration without the dimension is a point beside the interval, 1 from both of its ends. At 1 from all of
        the interval the covariance would not be positive definite: no space has such a point.
        """
        is_categorical = self._is_categorical[:, None, None]
        one, other = left.T[:, :, None], right.T[:, None, :]
        gap = np.abs(one - other)
        gap = np.where(is_categorical, (gap > 0) * 1.0, gap)
        of_one, of_other = np.broadcast_arrays(one, other)
        beside = np.sqrt((np.where(np.isnan(of_one), of_other, of_one) - 0.5) ** 2 + 0.75)
        has_one, has_other = ~np.isnan(of_one), ~np.isnan(of_other)
        gap = np.where(has_one != has_other, np.where(is_categorical, 1.0, beside), gap)
        return np.where(has_one | has_other, gap, 0.0)

    def _covariance(self, distance: Floats, left: Floats, right: Floats, draws: Floats) -> Floats:
        """Return the covariance (H, n, m) of observations after the shares ``left`` (n,) and ``right`` (m,)."""
        lengths, additive = draws[:, : self._n_dims], 1 / (1 + np.exp(-draws[:, self._n_dims]))[:, None, None]
        scaled = math.sqrt(5) * distance / np.exp(lengths)[:, :, None, None]
        matern = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
        kernel = additive * matern.mean(1) + (1 - additive) * matern.prod(1)
        final, gap = np.exp(2 * draws[:, self._n_dims + 1 : self._n_dims + 3]).T[:, :, None, None]
        is_same_stage = (left[:, None] == right) & (left[:, None] < 1)
        remaining = np.outer(1 - left, 1 - right)
        covariance: Floats = kernel * (final + gap * remaining) + OFFSET_VARIANCE + STAGE_VARIANCE * is_same_stage
        return covariance
