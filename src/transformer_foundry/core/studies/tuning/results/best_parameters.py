"""Apply the best parameters of a search to the options of a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.files.provenance import has_changed
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["use_best_parameters"]


def use_best_parameters(
    options: TrainingOptions, best_parameters: Mapping[str, Any] | None, model: str, data: str
) -> TrainingOptions:
    """Return ``options`` with the values that the search found, if ``options.use_best`` asks for them.

    Args:
        options: The training options.
        best_parameters: ``parameters`` and ``loss`` of the best trial, ``model`` and ``data`` of the search; None if
            there was no search.
        model: Identity of the model at hand (``ModelSource.identity``).
        data: Fingerprint of the data at hand (``TokenSplits.fingerprint``).

    Raises:
        TuningError: If they are asked for and missing, edited, from another model or other data, or from a search that
            changed the model itself.
    """
    if not options.use_best:
        return options
    if best_parameters is None:
        raise TuningError(
            "training.use_best is true, but there was no search for this run.",
            "It takes the values that the tuning pipeline found for this run, or for the run in run.preparation.",
            "Run 'kedro run --pipelines tuning' first, or leave training.use_best out.",
        )
    values = best_parameters.get("parameters") if isinstance(best_parameters, dict) else None
    if not isinstance(values, dict) or not values.keys() <= {field.name for field in dataclasses.fields(options)}:
        raise TuningError(
            "training.use_best is true, but best_parameters.json was not written by a search.",
            "Expected an object with the training parameters, the model and the data of the search.",
            "Run 'kedro run --pipelines tuning' again, or leave training.use_best out.",
        )
    if has_changed(best_parameters):
        raise TuningError(
            "training.use_best is true, but best_parameters.json has changed since the search wrote it.",
            "Expected the values that the search found.",
            "Run 'kedro run --pipelines tuning' again: it is made again. Values of your own go into conf/.",
        )
    found = {"model": best_parameters.get("model"), "data": best_parameters.get("data")}
    if found != {"model": model, "data": data}:
        changed = "another model" if found["model"] != model else "other data"
        raise TuningError(
            f"training.use_best is true, but the search was made with {changed}.",
            "Parameters that are best for one model and its data may be bad for another.",
            "Run 'kedro run --pipelines tuning' again under a new run.name, or leave training.use_best out.",
        )
    overrides = best_parameters.get("model_overrides")
    if isinstance(overrides, dict) and overrides:
        changes = ", ".join(f"{name}: {value!r}" for name, value in overrides.items())
        raise TuningError(
            f"training.use_best is true, but the search has also changed the model: {changes}.",
            "Expected a search over parameters of training only; another model is another export.",
            "Write these values into config.json of a copy of the export, set model.source to it, and give the "
            "training parameters of best_parameters.json in conf/.",
        )
    return dataclasses.replace(options, **values)
