"""Types in the signatures of nodes that are costly to import.

Kedro resolves the hints of a node when it validates parameters, and skips the validation of a node with a hint that it
cannot resolve. At run time these names are therefore ``Any``: torch, pandas, plotly and matplotlib stay unloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure
    from pandas import DataFrame
    from plotly.graph_objects import Figure

    from transformer_foundry.core.models import Adapter
else:
    Adapter = DataFrame = Figure = MatplotlibFigure = Any

__all__ = ["Adapter", "DataFrame", "Figure", "MatplotlibFigure"]
