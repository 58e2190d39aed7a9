"""Show the results of verification as a table and as a figure, from the manifest of an export or a package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["parity_figure", "parity_table"]

_LEAST_SHOWN = 1e-9


def parity_table(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each format and (batch, length) pair: ``format``, ``batch``, ``length``, ``max_abs_error``,
    ``allowed`` (missing for variants, which are judged by quality) and ``status``.

    Formats that could not be made have no rows.
    """  # fmt: skip
    rows = [
        {
            "format": entry["format"],
            "batch": row["batch"],
            "length": row["length"],
            "max_abs_error": row["max_abs_error"],
            "allowed": entry.get("tolerance"),
            "status": entry["status"],
        }
        for entry in manifest["formats"]
        for row in entry.get("shapes", ())
    ]
    return pd.DataFrame(rows, columns=["format", "batch", "length", "max_abs_error", "allowed", "status"])


def parity_figure(manifest: Mapping[str, Any]) -> Figure:
    """Draw the largest error of each format at each (batch, length) pair, with what is allowed as a line."""
    from matplotlib.figure import Figure

    table = parity_table(manifest)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    pairs = list(
        dict.fromkeys(f"{batch}x{length}" for batch, length in zip(table["batch"], table["length"], strict=True))
    )
    for name, rows in table.groupby("format", sort=False):
        places = [pairs.index(f"{batch}x{length}") for batch, length in zip(rows["batch"], rows["length"], strict=True)]
        errors = rows["max_abs_error"].astype(float).clip(lower=_LEAST_SHOWN)
        axes.plot(places, errors, marker="o", linestyle="--", linewidth=0.8, label=_label(str(name), rows))
    allowed = table["allowed"].astype(float).max()
    if allowed == allowed:
        axes.axhline(allowed, color="black", linewidth=1, label="allowed, of exact formats")
    axes.set_yscale("log")
    axes.set_xticks(range(len(pairs)), pairs)
    axes.set_xlabel("batch x length")
    axes.set_ylabel("largest difference from the model's logits")
    axes.set_title(f"Errors of exported files (none shown as {_LEAST_SHOWN:g})")
    if len(table):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _label(name: str, rows: pd.DataFrame) -> str:
    # A coarser variant is judged by what it predicts: it may lie above the line.
    return f"{name}, judged by quality" if rows["allowed"].isna().all() else name
