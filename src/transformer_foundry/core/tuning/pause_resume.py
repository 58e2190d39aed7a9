"""The default strategy: train many configurations half, and spend further steps where they are likeliest to pay.

Each configuration is trained to one checkpoint at half of its schedule and paused. A small Gaussian process over
(configuration, share of the training done) predicts where each would end, and the next steps go to the configuration,
paused or new, with the highest expected improvement for each step that it still needs. Nothing is pruned for good: a
paused trial may be resumed at any time. Now and then a new configuration is trained to its end without a look on the
way: insurance for problems where the loss at half time misleads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transformer_foundry.core.tuning.surrogate import CurveModel, Floats

__all__ = ["COST_POWER", "INSURANCE_EVERY", "Choice", "Known", "choose"]

COST_POWER = 1.5
"""Expected improvement is divided by the share of a training that is left, to this power: finishing comes first."""

INSURANCE_EVERY = 5
"""Each fifth decision trains a new configuration to its end."""

OUTLIER_SPREAD = 2.0
"""Losses beyond the median by more than this many times (median - best) say "bad", not how bad."""

SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True)
class Known:
    """What is known of one trial.

    Attributes:
        features: (D,) in [0, 1]; NaN where a dimension does not apply.
        losses: (share of the training done, validation loss) pairs, shares ascending; not finite if it diverged.
        left: Share of a full training that its result still costs; 0 if it has ended.
        is_open: Whether it is paused and may be resumed; what is neither open nor ended is being trained now.
    """

    features: Floats
    losses: tuple[tuple[float, float], ...]
    left: float
    is_open: bool


@dataclass(frozen=True)
class Choice:
    """What to train next.

    Attributes:
        index: Of the trial to resume, or of the new configuration.
        is_new: Whether ``index`` is one of the new configurations.
        to_the_end: Whether it is trained to the end without a pause.
        gain: Largest expected improvement of the best loss by any single training, as a share of it.
    """

    index: int
    is_new: bool
    to_the_end: bool
    gain: float


def choose(
    known: Sequence[Known],
    fresh: Floats,
    is_categorical: NDArray[np.bool_],
    *,
    insured: bool,
    affordable: float,
    rng: np.random.Generator,
) -> Choice | None:
    """Choose the next configuration to spend steps on.

    Args:
        known: The trials so far; at least one with a loss.
        fresh: (m, D) features of new configurations to choose among.
        is_categorical: (D,) bool.
        insured: Whether this decision trains a new configuration to its end.
        affordable: Full trainings that the budget still pays; what costs more is no choice.
        rng: Source of the model's hyper-parameter draws.

    Returns:
        The choice, or None if there is none to make.
    """
    paused = [index for index, trial in enumerate(known) if trial.is_open and trial.left <= affordable + 1e-9]
    n_fresh = len(fresh) if affordable >= 1 - 1e-9 else 0
    if not paused and not n_fresh:
        return None
    features = np.array([*(known[index].features for index in paused), *fresh[:n_fresh]])
    improvement, unit = _expected_improvement(known, features, is_categorical, rng)
    gain = float(improvement.max() * unit)
    if insured and n_fresh:
        return Choice(int(np.argmax(improvement[len(paused) :])), True, True, gain)
    left = np.array([*(known[index].left for index in paused), *[1.0] * n_fresh])
    best = int(np.argmax(improvement / left**COST_POWER))
    if best < len(paused):
        return Choice(paused[best], False, True, gain)
    return Choice(best - len(paused), True, False, gain)


def _expected_improvement(
    known: Sequence[Known], features: Floats, is_categorical: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Floats, float]:
    """Expected improvement (m,) of the best final loss in standardised units, and that unit as a share of a loss."""
    rows = [(trial.features, share, loss) for trial in known for share, loss in trial.losses]
    shares = np.array([share for _, share, _ in rows])
    values, unit = _standardise(shares, np.array([loss for *_, loss in rows]))
    model = CurveModel(is_categorical, rng)
    model.fit(np.array([row[0] for row in rows]), shares, values)
    running = [trial.features for trial in known if trial.left > 0 and not trial.is_open]
    if running:
        model.believe(np.array(running))
    mean, deviation, weights = model.predict_final(features)
    is_final = shares >= 1
    best = values[is_final].min() if is_final.any() else (weights @ mean).min()
    gap = (best - mean) / deviation
    density = np.exp(-(gap**2) / 2) / math.sqrt(2 * math.pi)
    return weights @ (deviation * (gap * _normal_cdf(gap) + density)), unit


def _standardise(shares: Floats, losses: Floats) -> tuple[Floats, float]:
    """Log losses with outliers drawn in, centred and scaled by those of paused trials; and the unit of the scale."""
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
        values[stage] = _draw_in(values[stage], bad)
    reference = values[shares < 1] if (shares < 1).sum() > 1 else values
    unit = max(float(reference.std()), SMALLEST_SPREAD)
    share_of_loss = unit if is_positive else unit / max(abs(float(finite.min())), SMALLEST_SPREAD)
    return (values - reference.mean()) / unit, share_of_loss


def _draw_in(values: Floats, bad: float) -> Floats:
    """Losses no further from the median than says "bad"; ``bad`` itself where there is no median to speak of."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return np.minimum(values, bad)
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
