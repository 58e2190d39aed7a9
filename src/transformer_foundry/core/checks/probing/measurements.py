"""Values that the checks measure and the figure shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transformer_foundry.core.checks.probing.drawn_graph import Graph

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Measurements"]


@dataclass
class Measurements:
    """The measurements behind a report.

    Attributes:
        dependence: (S, T) change of the logits at position s when token t is exchanged; None when not measured.
        is_causal: Whether entries above the diagonal are leaks.
        gradients: (layer, root mean square gradient) in the order of the model, at initialization.
        initial_loss: Loss before training in nats; None when not measured.
        uniform_loss: Loss of a uniform guess, ln V, in nats; None when not measured.
        entropies: (module, entropy of each head as a share of the largest possible).
        graph: The drawn graph.
        marked: Drawn blocks that a problem was found in.
    """

    dependence: Tensor | None = None
    is_causal: bool = False
    gradients: Sequence[tuple[str, float]] = ()
    initial_loss: float | None = None
    uniform_loss: float | None = None
    entropies: Sequence[tuple[str, Sequence[float]]] = ()
    graph: Graph = field(default_factory=Graph)
    marked: Sequence[str] = ()

    @property
    def excess(self) -> float:
        """Loss before training minus that of a uniform guess, in nats; NaN when not measured."""
        if self.initial_loss is None or self.uniform_loss is None:
            return math.nan
        return self.initial_loss - self.uniform_loss
