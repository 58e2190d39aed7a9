"""Find the method of a callback for what a node has loaded or saved, by its type and never by its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline.node import Node

from transformer_foundry.core.training.events import Checkpoint, Progress, Started
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.results import (
    DataProfile,
    ErrorAnalysis,
    Evaluation,
    HubPublication,
    ModelComparison,
    Samples,
    SearchComparison,
    ValidationReport,
    is_result,
)

__all__ = ["announce_loaded", "announce_saved", "is_drawing", "is_event", "is_figure", "reads_training"]

Notify = Callable[[Callable[[Callback], None]], None]

_SHARED: Mapping[type[Any], str] = {
    ValidationReport: Callback.on_validation.__name__,
    DataProfile: Callback.on_data_profile.__name__,
}
"""Results that later commands read again -> the method of a callback that takes one."""

_RESULTS: Mapping[type[Any], str] = {
    Evaluation: Callback.on_evaluation.__name__,
    Samples: Callback.on_samples.__name__,
    ErrorAnalysis: Callback.on_error_analysis.__name__,
    SearchComparison: Callback.on_search_comparison.__name__,
    ModelComparison: Callback.on_model_comparison.__name__,
    HubPublication: Callback.on_publication.__name__,
}
"""Other results -> the method."""


def is_event(data: object) -> bool:
    """Return whether this is an event of a training."""
    return isinstance(data, Started | Progress | Checkpoint)


def is_figure(data: object) -> bool:
    """Return whether this is a figure of plotly in which something is drawn, or one of matplotlib; imports neither."""
    kind = type(data)
    library = kind.__module__.partition(".")[0]
    return kind.__name__ == "Figure" and (
        library == "matplotlib" or (library == "plotly" and bool(getattr(data, "data", ())))
    )


def is_drawing(data: object) -> bool:
    """Return whether this shows other results: a figure, a table of pandas or the one of several models."""
    kind = type(data)
    is_table = kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"
    return is_table or is_figure(data) or is_result(data, ModelComparison)


def reads_training(catalog: DataCatalog, node: Node) -> bool:
    """Return whether a node reads a training run, a search or a comparison of models."""
    from transformer_foundry.datasets import ComparisonDataset, StudyDataset, TrainingRunDataset

    kinds = (ComparisonDataset, StudyDataset, TrainingRunDataset)
    return any(isinstance(catalog.get(name), kinds) for name in node.inputs)


def announce_loaded(notify: Notify, data: object) -> None:
    """Announce what later commands read again: the validation report and the prepared data."""
    _announce_shared(notify, data, is_new=False)


def announce_saved(
    notify: Notify, data: object, *, name: str, dataset: AbstractDataset[Any, Any] | None, is_new: bool, after: bool
) -> None:
    """Announce what a node has saved.

    Args:
        notify: Calls a method of every callback.
        data: What was saved.
        name: Name of its catalog entry, without namespace.
        dataset: Where it was saved.
        is_new: Whether it was made by this command; False for a result of an earlier one that was kept.
        after: Whether the node reads a training, a search or a comparison.
    """
    if isinstance(data, Progress):
        notify(lambda callback: callback.on_progress(data))
    elif isinstance(data, Started):
        notify(lambda callback: callback.on_started(data))
    elif isinstance(data, Checkpoint):
        pass  # it is being written: the dataset announces it when it is durable
    elif is_figure(data):
        notify(lambda callback: callback.on_figure(name, data, is_of_training=after, is_new=is_new))
    else:
        _announce_shared(notify, data, is_new=is_new)
        if isinstance(data, Mapping):
            _announce_result(notify, data, _RESULTS, is_new=is_new)
        else:
            _announce_object(notify, data, dataset, is_new=is_new)


def _announce_shared(notify: Notify, data: object, *, is_new: bool) -> None:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

    if isinstance(data, TokenSplits):
        notify(lambda callback: callback.on_token_splits(data, is_new=is_new))
    else:
        _announce_result(notify, data, _SHARED, is_new=is_new)


def _announce_result(notify: Notify, data: object, methods: Mapping[type[Any], str], *, is_new: bool) -> None:
    method = next((name for kind, name in methods.items() if is_result(data, kind)), None)
    if method is not None:
        notify(lambda callback: getattr(callback, method)(data, is_new=is_new))


def _announce_object(notify: Notify, data: object, dataset: object, *, is_new: bool) -> None:
    from transformer_foundry.core.publishing import Package
    from transformer_foundry.core.studies.tuning import TrialResult
    from transformer_foundry.datasets import PackageDataset

    if isinstance(data, TrialResult):
        notify(lambda callback: callback.on_trial(data))
    elif isinstance(data, Package):
        # Saving has removed the folder that the package was built in.
        package = dataclasses.replace(data, folder=dataset.folder) if isinstance(dataset, PackageDataset) else data
        notify(lambda callback: callback.on_package(package, is_new=is_new))
