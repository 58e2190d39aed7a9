"""The space of a search: named dimensions with a type and a range, read from YAML and checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.errors import ParameterError, suggestion

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Dimension", "SearchSpace", "parse_space"]

_TYPES = ("float", "int", "categorical")
_SECTION = "tuning.space"


@dataclass(frozen=True)
class Dimension:
    """One parameter that is searched.

    Args:
        name: Name of the parameter.
        type: "float", "int" or "categorical".
        low: Smallest value of a float or int.
        high: Largest value of a float or int.
        log: Whether equal ratios, rather than equal differences, are equally likely.
        choices: The values of a categorical dimension.

    Raises:
        ParameterError: Naming the YAML key, if the fields do not fit the type or the range is empty.
    """

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in _TYPES:
            hint = suggestion(str(self.type), _TYPES)
            raise _bad(self.name, "type", self.type, f"one of: {', '.join(_TYPES)}", hint)
        if not isinstance(self.log, bool):
            raise _bad(self.name, "log", self.log, "true or false")
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    def _check_choices(self) -> None:
        if not self.choices:
            raise _bad(self.name, "choices", list(self.choices), "a list with at least one value")
        if self.low is not None or self.high is not None or self.log:
            raise _bad(self.name, "type", self.type, "'float' or 'int' beside low, high or log")
        for choice in self.choices:
            if not isinstance(choice, str | int | float | bool | None):
                raise _bad(self.name, "choices", choice, "texts, numbers, true, false or null")

    def _check_range(self) -> None:
        if self.choices:
            raise _bad(self.name, "type", self.type, "'categorical' beside choices")
        for key, value in (("low", self.low), ("high", self.high)):
            allowed: Any = int if self.type == "int" else int | float
            if not isinstance(value, allowed) or isinstance(value, bool) or not math.isfinite(value):
                raise _bad(self.name, key, value, "a whole number" if self.type == "int" else "a finite number")
        low, high = self.bounds
        if low >= high:
            raise _bad(self.name, "low", self.low, f"less than {_SECTION}.{self.name}.high, which is {self.high}")
        if self.log and low <= 0:
            raise _bad(self.name, "low", self.low, "above 0, because log is true")

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value of a float or int dimension."""
        assert self.low is not None, self
        assert self.high is not None, self
        return self.low, self.high

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values whose validity shows that every value of the dimension is valid."""
        return self.choices if self.type == "categorical" else self.bounds

    def nearest(self, value: Any) -> Any:
        """Return the value of the dimension that is nearest to ``value``: a range's end, or the first choice."""
        if self.type == "categorical":
            return value if value in self.choices else self.choices[0]
        low, high = self.bounds
        return min(max(value, low), high)

    def distribution(self) -> BaseDistribution:
        """Return the dimension in Optuna's terms."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.type == "categorical":
            return CategoricalDistribution(self.choices)
        low, high = self.bounds
        if self.type == "int":
            return IntDistribution(int(low), int(high), log=self.log)
        return FloatDistribution(low, high, log=self.log)

    def to_dict(self) -> dict[str, Any]:
        """Return the dimension as it is written in YAML."""
        if self.type == "categorical":
            return {"type": self.type, "choices": list(self.choices)}
        return {"type": self.type, "low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions of a search and the configuration that is tried first.

    Args:
        dimensions: What is searched; at least one, each name once.
        default: Name -> value of the configuration to try first; empty if none is known.
    """

    dimensions: tuple[Dimension, ...]
    default: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ParameterError(
                f"{_SECTION} has no dimension.",
                "Expected at least one parameter to search.",
                f"Add one, for example {_SECTION}.learning_rate: {{type: float, low: 0.0001, high: 0.01, log: true}}.",
            )

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return name -> Optuna distribution."""
        return {dimension.name: dimension.distribution() for dimension in self.dimensions}

    def first_configuration(self) -> dict[str, Any]:
        """Return the default configuration, moved to the nearest value of the space where it lies outside."""
        return {
            dimension.name: dimension.nearest(self.default[dimension.name])
            for dimension in self.dimensions
            if dimension.name in self.default
        }

    def largest(self, name: str, otherwise: float) -> float:
        """Return the largest value that ``name`` can take: in the space, else in the default, else ``otherwise``."""
        for dimension in self.dimensions:
            if dimension.name == name:
                return float(max(dimension.extremes))
        return float(self.default.get(name, otherwise))

    def to_dict(self) -> dict[str, Any]:
        """Return the dimensions as they are written in YAML."""
        return {dimension.name: dimension.to_dict() for dimension in self.dimensions}


def parse_space(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> SearchSpace:
    """Read a space from its YAML form.

    Args:
        values: Name -> mapping with type (float, int or categorical), low, high, log, choices.
        defaults: Name -> default value of every parameter that can be searched.

    Returns:
        The space, with the default configuration to try first.

    Raises:
        ParameterError: If a parameter or key is unknown (with the nearest name), or a range is empty or reversed.

    Example:
        >>> space = parse_space({"lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}}, {"lr": 1e-3})
        >>> space.first_configuration()
        {'lr': 0.001}
    """
    dimensions = tuple(_parse_dimension(str(name), entry, defaults) for name, entry in values.items())
    return SearchSpace(dimensions, dict(defaults))


def _parse_dimension(name: str, entry: Any, defaults: Mapping[str, Any]) -> Dimension:
    if name not in defaults:
        raise ParameterError(
            f"{_SECTION}.{name} names no parameter that can be searched.{suggestion(name, defaults)}",
            f"Parameters that can be searched: {', '.join(defaults)}.",
            f"Correct or remove {_SECTION}.{name}.",
        )
    if not isinstance(entry, Mapping):
        raise _bad(name, "", entry, "a mapping such as {type: float, low: 0.0, high: 0.2}")
    known = [field.name for field in dataclasses.fields(Dimension) if field.name != "name"]
    for key in entry:
        if key not in known:
            raise ParameterError(
                f"Unknown key {_SECTION}.{name}.{key} (value {entry[key]!r}).{suggestion(str(key), known)}",
                f"Known keys: {', '.join(known)}.",
                f"Correct or remove {_SECTION}.{name}.{key}.",
            )
    if "type" not in entry:
        raise _bad(name, "type", None, f"one of: {', '.join(_TYPES)}")
    choices = entry.get("choices", ())
    if not isinstance(choices, list | tuple):
        raise _bad(name, "choices", choices, "a list of values")
    dimension = Dimension(name=name, **{**entry, "choices": tuple(choices)})
    _check_against_default(dimension, defaults[name])
    return dimension


def _check_against_default(dimension: Dimension, default: Any) -> None:
    is_whole = isinstance(default, int) and not isinstance(default, bool)
    if dimension.type == "float" and is_whole:
        raise _bad(dimension.name, "type", "float", f"'int': {dimension.name} is a whole number")
    if dimension.type != "categorical" and isinstance(default, str | bool):
        raise _bad(dimension.name, "type", dimension.type, f"'categorical': {dimension.name} is {default!r} by default")


def _bad(name: str, key: str, value: Any, expected: str, hint: str = "") -> ParameterError:
    path = f"{_SECTION}.{name}.{key}" if key else f"{_SECTION}.{name}"
    return ParameterError(f"{path} is {value!r}.{hint}", f"Expected {expected}.", f"Set {path} in conf/.")
