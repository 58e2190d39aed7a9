"""Parameters to reproduce a run from its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import ParameterError

__all__ = ["recorded_parameters"]

_SECTIONS = ("model", "data", "training")


def recorded_parameters(path: Path, *, fork_from: str | None = None) -> dict[str, Any]:
    """Return the sections ``model``, ``data`` and ``training`` that a run used.

    Args:
        path: The run's ``manifest.json``.
        fork_from: The checkpoint to start from; required to reproduce a fork.

    Raises:
        ParameterError: If it is not the manifest of a run, or it is the manifest of a fork and ``fork_from`` is None.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        parameters = {name: dict(manifest["parameters"][name]) for name in _SECTIONS}
        first_step = int(manifest["sessions"][0]["step"]) if manifest.get("sessions") else 0
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise ParameterError(
            f"run.reproduce is {str(path)!r}, which is not the manifest of a run ({type(err).__name__}).",
            "Expected the path of a manifest.json with the parameters of model, data and training.",
            "Set run.reproduce=data/06_models/NAME/manifest.json; 'kedro runs list' shows the names.",
        ) from err
    if first_step and fork_from is None:
        raise ParameterError(
            f"run.reproduce is {str(path)!r}, a run that started from step {first_step} of another run.",
            "Expected that checkpoint too: the result depends on it, and the manifest does not contain it.",
            f"Set run.fork_from=FOLDER_OF_STEP_{first_step}, or reproduce the other run.",
        )
    # The recorded values contain those of the search.
    parameters["training"]["use_best"] = False
    return parameters
