"""Types of the results that pipelines save as JSON, and how a saved value is recognized.

A result is recognized by its keys and their types: a catalog entry may have any name, type of dataset and location.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypedDict, TypeGuard, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

__all__ = [
    "BestParameters",
    "DataProfile",
    "ErrorAnalysis",
    "Evaluation",
    "Finding",
    "HubPublication",
    "ModelComparison",
    "Samples",
    "SearchComparison",
    "ValidationReport",
    "is_result",
]

ResultT = TypeVar("ResultT")


class Finding(TypedDict):
    """One problem, with its place and its fix."""

    severity: str
    message: str
    where: str
    fix: str


class ValidationReport(TypedDict):
    """What the checks found in an exported model."""

    status: str
    kind: str
    findings: list[Finding]
    seconds: float


class DataProfile(TypedDict):
    """What is in the prepared data."""

    texts: dict[str, Any]
    splits: dict[str, Any]
    baselines: dict[str, float]
    findings: list[dict[str, Any]]


class Evaluation(TypedDict):
    """Metrics of the best checkpoint, with the baselines that it beats or does not beat."""

    step: int
    validation: dict[str, float]
    comparisons: list[dict[str, Any]]


class Samples(TypedDict):
    """Texts that the trained model writes."""

    step: int
    task: str
    samples: list[str]


class _ErrorAnalysis(TypedDict):
    task: str
    split: str
    examples: int


class ErrorAnalysis(_ErrorAnalysis, total=False):
    """Where the best checkpoint errs; ``worst`` is missing where there was nothing to look at."""

    worst: list[dict[str, Any]]


class ModelComparison(TypedDict):
    """Several models trained side by side, one row each."""

    models: list[dict[str, Any]]


class BestParameters(TypedDict):
    """What a search has found."""

    parameters: dict[str, Any]
    model_overrides: dict[str, Any]


class SearchComparison(TypedDict):
    """How the winner of a search compares with the default parameters."""

    verdict: str
    is_better: bool | None
    steps: int


class _HubPublication(TypedDict):
    published: bool
    model: str
    version: int


class HubPublication(_HubPublication, total=False):
    """Whether and where a package was published; the address is missing if it was not."""

    url: str
    tag: str


def is_result(value: object, kind: type[ResultT]) -> TypeGuard[ResultT]:
    """Return whether ``value`` has the keys of the result type ``kind``, each with a value of its type.

    Example:
        >>> is_result({"step": 9, "task": "causal_lm", "samples": []}, Samples)
        True
    """
    required: frozenset[str] = getattr(kind, "__required_keys__")  # noqa: B009 - mypy knows it of no generic type
    if not isinstance(value, Mapping) or not required <= value.keys():
        return False
    hints = get_type_hints(kind)
    return all(_is_of_type(value[name], hints[name]) for name in required)


def _is_of_type(value: object, hint: Any) -> bool:
    """Return whether ``value`` is of the type ``hint``, and the items of a list of mappings are mappings."""
    if isinstance(hint, UnionType):
        return any(_is_of_type(value, option) for option in get_args(hint))
    origin = get_origin(hint) or hint
    if origin is dict or is_typeddict(origin):
        return isinstance(value, Mapping)
    if origin is list:
        return isinstance(value, list | tuple) and all(_is_of_type(item, *get_args(hint)) for item in value)
    return hint is Any or isinstance(value, int | float if origin is float else origin)
