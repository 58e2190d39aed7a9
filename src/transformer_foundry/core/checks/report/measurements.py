"""What the figure shows, measured by the checks on the way: maps, gradients, losses, entropies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformer_foundry.core.checks.probing.drawn_graph import Graph

__all__ = ["Measurements"]


@dataclass(frozen=True)
class Measurements:
    """The measurements behind a report.

    Attributes:
        dependence: (S, T) change of the logits at position s when token t is exchanged; None when not measured.
        is_causal: Whether entries above the diagonal are leaks.
        gradients: (layer, root mean square gradient) in the order of the model, at initialisation.
        initial_loss: Loss before training in nats; None when not measured.
        guess: ln V.
        entropies: (attention, entropy of each head as a share of the largest possible).
        graph: The drawn graph.
        marked: Drawn blocks that a problem was found in.
    """

    dependence: Sequence[Sequence[float]] | None = None
    is_causal: bool = False
    gradients: Sequence[tuple[str, float]] = ()
    initial_loss: float | None = None
    guess: float | None = None
    entropies: Sequence[tuple[str, Sequence[float]]] = ()
    graph: Graph = field(default_factory=Graph)
    marked: Sequence[str] = ()

    @classmethod
    def collect(cls, measured: Mapping[str, Any], *, is_causal: bool, marked: Sequence[str]) -> Measurements:
        """Make the evidence from what the checks noted."""
        dependence, loss = measured.get("dependence"), measured.get("initial loss", {})
        return cls(
            dependence=None if dependence is None else dependence.tolist(),
            is_causal=is_causal,
            gradients=tuple(measured.get("gradient flow", ())),
            initial_loss=loss.get("loss"),
            guess=loss.get("guess"),
            entropies=tuple((name, tuple(share)) for name, share in measured.get("entropy", ())),
            graph=measured.get("graph", Graph()),
            marked=tuple(marked),
        )

    @property
    def excess(self) -> float:
        """How far the loss before training lies above that of a guess, in nats; NaN when not measured."""
        return math.nan if self.initial_loss is None or self.guess is None else self.initial_loss - self.guess
