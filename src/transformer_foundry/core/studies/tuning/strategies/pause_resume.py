"""The default strategy: train many configurations halfway, then resume where further steps are likeliest to pay.

Each configuration is trained to half of its schedule, saved and paused. A small Gaussian process over
(configuration, share of the training done) predicts the final loss of each. Nothing is pruned for good: a paused trial
can be resumed at any time.

The choice is Pandora's problem (Weitzman 1979, Econometrica 47): boxes with unknown prizes, each opened at a
price. There the box with the best index is opened, and the index of a training that ends at ``Y`` and costs ``c`` is
the loss ``z`` at which it is just worth its price: ``E[max(z - Y, 0)] = price * c``. It depends on the training alone
and not on the best loss so far: a paused trial is finished when no other training is worth more, not because the
finished ones are worse. Xie et al. 2024 (arXiv:2406.20062) use it with Gaussian processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transformer_foundry.core.studies.tuning.strategies.gaussian_process import Floats, LearningCurveGP

__all__ = ["PRICE", "Decision", "TrialHistory", "select_next"]

PRICE = 0.01
"""Gain, as a share of the loss, that a full training has to be worth; halved while none is."""

MAX_HALVINGS = 12
"""The price falls to less than a 4000th of ``PRICE``: then all trainings are worth it or none is."""

NEW_COST = 0.75
"""Price of a new configuration in full trainings: half of one to its pause, and the other half for one in two."""

BISECTIONS = 30

OUTLIER_SPREAD = 2.0
"""Losses above the median by more than this many times (median - best) are clipped."""

SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True)
class TrialHistory:
    """The losses of one trial so far and what its result still costs.

    Attributes:
        features: (D,) in [0, 1]; NaN where a dimension does not apply.
        losses: (share of the training done, validation loss) pairs, shares ascending; not finite if it diverged.
        left: Share of a full training until its result; 0 if it has ended.
        is_open: Whether it is paused and can be resumed; a trial that is neither open nor ended is running.
    """

    features: Floats
    losses: tuple[tuple[float, float], ...]
    left: float
    is_open: bool


@dataclass(frozen=True)
class Decision:
    """The training to spend the next steps on.

    Attributes:
        index: Index of the trial to resume, or of the new configuration.
        is_new: Whether ``index`` is one of the new configurations.
        gain: Largest expected improvement of the best loss by any single training, as a share of it.
    """

    index: int
    is_new: bool
    gain: float


def select_next(
    histories: Sequence[TrialHistory],
    new: Floats,
    is_categorical: NDArray[np.bool_],
    *,
    affordable: float,
    rng: np.random.Generator,
) -> Decision | None:
    """Select the training to spend the next steps on.

    Args:
        histories: The trials so far; at least one with a loss.
        new: (m, D) features of new configurations to choose among.
        is_categorical: (D,) bool.
        affordable: Full trainings that the budget still pays for; those that cost more are not selected.
        rng: Random numbers of the model's hyper-parameter draws.

    Returns:
        The decision, or None if there is nothing to select.
    """
    paused = [index for index, trial in enumerate(histories) if trial.is_open and trial.left <= affordable + 1e-9]
    n_new = len(new) if affordable >= 1 - 1e-9 else 0
    if not paused and not n_new:
        return None
    features = np.array([*(histories[index].features for index in paused), *new[:n_new]])
    predicted, best, unit = _predict(histories, features, is_categorical, rng)
    costs = np.array([*(histories[index].left for index in paused), *[NEW_COST] * n_new])
    gain = float(predicted.improvement_on(np.full(len(costs), best)).max() * unit)
    chosen = int(np.argmin(_indices(predicted, best, PRICE / unit, costs)))
    if chosen < len(paused):
        return Decision(paused[chosen], False, gain)
    return Decision(chosen - len(paused), True, gain)


@dataclass(frozen=True)
class _Predicted:
    """Final losses of m trainings under H draws of hyper-parameters: mean and deviation (H, m), weights (H,)."""

    mean: Floats
    deviation: Floats
    weights: Floats

    def improvement_on(self, losses: Floats) -> Floats:
        """Return the expected improvement (m,) of each training on its entry of ``losses`` (m,)."""
        gap = (losses - self.mean) / self.deviation
        density = np.exp(-(gap**2) / 2) / math.sqrt(2 * math.pi)
        improvement: Floats = self.weights @ (self.deviation * (gap * _normal_cdf(gap) + density))
        return improvement


def _indices(predicted: _Predicted, best: float, price: float, costs: Floats) -> Floats:
    """Return the loss (m,) at which each training is just worth its price, the lower the better.

    The price falls until some training is expected to improve on ``best`` by it.
    """
    at_stake = predicted.improvement_on(np.full(len(costs), best))
    halvings = next((n for n in range(MAX_HALVINGS) if (at_stake > price / 2**n * costs).any()), MAX_HALVINGS)
    wanted = price / 2**halvings * costs
    low: Floats = (predicted.mean - 8 * predicted.deviation).min(0)
    high: Floats = (predicted.mean + 8 * predicted.deviation).max(0) + wanted
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        is_above = predicted.improvement_on(middle) > wanted
        low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
    return high


def _predict(
    histories: Sequence[TrialHistory], features: Floats, is_categorical: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[_Predicted, float, float]:
    """Return final losses of trainings and the best loss so far, in standardized units, and the unit as a share."""
    rows = [(trial.features, share, loss) for trial in histories for share, loss in trial.losses]
    shares = np.array([share for _, share, _ in rows])
    losses = np.array([loss for *_, loss in rows])
    values, unit = _standardize(shares, losses)
    model = LearningCurveGP(is_categorical, rng)
    model.fit(np.array([row[0] for row in rows]), shares, values)
    running = [trial.features for trial in histories if trial.left > 0 and not trial.is_open]
    if running:
        model.condition_on_predictions(np.array(running))
    predicted = _Predicted(*model.predict_final(features))
    is_final = (shares >= 1) & np.isfinite(losses)
    # Without a result, the expected final loss of the best of these trainings.
    best = values[is_final].min() if is_final.any() else (predicted.weights @ predicted.mean).min()
    return predicted, float(best), unit


def _standardize(shares: Floats, losses: Floats) -> tuple[Floats, float]:
    """Return log losses without outliers, centered and scaled by those of paused trials; and the unit of the scale."""
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return np.zeros(len(losses)), SMALLEST_SPREAD
    is_positive = finite.min() > 0
    values = np.where(np.isfinite(losses), losses, np.inf)
    if is_positive:
        values = np.log(values)
    known = values[np.isfinite(values)]
    bad = known.max() + OUTLIER_SPREAD * max(float(np.ptp(known)), SMALLEST_SPREAD)
    for stage in (shares < 1, shares >= 1):
        values[stage] = _clip_outliers(values[stage], bad)
    reference = values[shares < 1] if (shares < 1).sum() > 1 else values
    unit = max(float(reference.std()), SMALLEST_SPREAD)
    share_of_loss = unit if is_positive else unit / max(abs(float(finite.min())), SMALLEST_SPREAD)
    return (values - reference.mean()) / unit, share_of_loss


def _clip_outliers(values: Floats, bad: float) -> Floats:
    """Return losses clipped at a distance above their median; at ``bad`` where there are too few for a median."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return np.asarray(np.minimum(values, bad))
    median = float(np.median(np.minimum(values, finite.max())))
    limit = median + OUTLIER_SPREAD * max(median - float(finite.min()), SMALLEST_SPREAD)
    return np.minimum(values, limit)


def _normal_cdf(x: Floats) -> Floats:
    # numpy has no erf; Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
    z = np.abs(x) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * series * np.exp(-(z**2))
    return np.where(x >= 0, 1 - tail, tail)
