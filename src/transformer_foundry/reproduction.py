"""Doing a run again from its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformer_foundry.core.errors import ParameterError

__all__ = ["recorded_parameters"]

_SECTIONS = ("model", "data", "training")


def recorded_parameters(path: Path) -> dict[str, Any]:
    """Return the sections of parameters that a run was made with.

    Args:
        path: The run's ``manifest.json``.

    Raises:
        ParameterError: If it is not the manifest of a run.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        parameters = {name: dict(manifest["parameters"][name]) for name in _SECTIONS}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ParameterError(
            f"run.reproduce is {str(path)!r}, which is not the manifest of a run ({type(err).__name__}).",
            "The path of a manifest.json with the parameters of model, data and training was expected.",
            "Give data/06_models/NAME/manifest.json; 'kedro runs list' shows the names.",
        ) from err
    # What a search had found is among the recorded values.
    parameters["training"]["use_best"] = False
    return parameters
