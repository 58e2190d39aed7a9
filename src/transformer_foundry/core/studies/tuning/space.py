"""Search spaces: named dimensions with a type and a range, read from YAML and checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import ParameterError, suggestion

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

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
        when: Name of another dimension -> values of it with which this one exists; empty if it always does.

    Raises:
        ParameterError: Naming the YAML key, if the fields do not fit the type or the range is empty.
    """

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

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
            # By value and type: in Python 1 == True == 1.0.
            if [(type(other), other) for other in self.choices].count((type(choice), choice)) > 1:
                raise _bad(self.name, "choices", list(self.choices), "each value once")

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
        """The values to check: if they are valid, every value of the dimension is."""
        return self.choices if self.type == "categorical" else self.bounds

    @property
    def n_levels(self) -> int | None:
        """Number of different values; None if they are unlimited."""
        if self.type == "categorical":
            return len(self.choices)
        low, high = self.bounds
        return int(high - low) + 1 if self.type == "int" else None

    @property
    def is_ordered(self) -> bool:
        """Whether values have an order: numbers do, also as choices."""
        return self.type != "categorical" or all(
            isinstance(choice, int | float) and not isinstance(choice, bool) for choice in self.choices
        )

    def applies(self, configuration: Mapping[str, Any]) -> bool:
        """Return whether the dimension exists in ``configuration``, by the values of the dimensions before it."""
        return all(name in configuration and configuration[name] in values for name, values in self.when.items())

    def to_unit(self, value: Any) -> float:
        """Return the position of ``value`` in the dimension, from 0 to 1; numeric choices in their order."""
        if self.type == "categorical":
            ranked = sorted(self.choices) if self.is_ordered else list(self.choices)
            return ranked.index(value) / max(1, len(ranked) - 1)
        low, high = self.bounds
        return float(math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low))

    def from_unit(self, position: float) -> Any:
        """Return the value at ``position``, 0 to 1; equal shares of the range are equally many values."""
        levels = self.n_levels
        if self.type == "categorical":
            ranked = sorted(self.choices) if self.is_ordered else list(self.choices)
            return ranked[min(int(position * len(ranked)), len(ranked) - 1)]
        low, high = self.bounds
        if levels is not None and not self.log:
            return int(low) + min(int(position * levels), levels - 1)
        value = low * (high / low) ** position if self.log else low + position * (high - low)
        value = min(max(value, low), high)
        return round(value) if levels is not None else float(value)

    def nearest(self, value: Any) -> Any:
        """Return the value of the dimension that is nearest to ``value``: a range's end, or the first choice."""
        if self.type == "categorical":
            return value if value in self.choices else self.choices[0]
        low, high = self.bounds
        return min(max(value, low), high)

    def distribution(self) -> BaseDistribution:
        """Return the dimension as a distribution of Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.type == "categorical":
            return CategoricalDistribution(self.choices)
        low, high = self.bounds
        if self.type == "int":
            return IntDistribution(int(low), int(high), log=self.log)
        return FloatDistribution(low, high, log=self.log)

    def suggest(self, trial: Trial) -> Any:
        """Return the value that the trial's sampler proposes."""
        if self.type == "categorical":
            return trial.suggest_categorical(self.name, self.choices)
        low, high = self.bounds
        if self.type == "int":
            return trial.suggest_int(self.name, int(low), int(high), log=self.log)
        return trial.suggest_float(self.name, low, high, log=self.log)

    def to_dict(self) -> dict[str, Any]:
        """Return the dimension as it is written in YAML."""
        when = {"when": {name: list(values) for name, values in self.when.items()}} if self.when else {}
        if self.type == "categorical":
            return {"type": self.type, "choices": list(self.choices), **when}
        return {"type": self.type, "low": self.low, "high": self.high, "log": self.log, **when}


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions of a search and the configuration that is tried first.

    Args:
        dimensions: What is searched; at least one, each name once.
        default: Name -> value of the configuration to try first; empty if unknown.
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

    def distributions(self, configuration: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Return name -> Optuna distribution of the dimensions that ``configuration`` has."""
        return {
            dimension.name: dimension.distribution() for dimension in self.dimensions if dimension.name in configuration
        }

    def complete(self, value_of: Callable[[Dimension], Any]) -> dict[str, Any]:
        """Return a configuration: ``value_of`` of each dimension whose condition holds for the earlier values."""
        configuration: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.applies(configuration):
                configuration[dimension.name] = value_of(dimension)
        return configuration

    def first_configuration(self) -> dict[str, Any]:
        """Return the default configuration, with values outside the space moved to the nearest value in it.

        Empty if the default of a dimension is unknown.
        """
        if not all(_is_known(dimension, self.default) for dimension in self.dimensions):
            return {}
        return self.complete(lambda dimension: dimension.nearest(self.default[dimension.name]))

    def largest(self, name: str, otherwise: float) -> float:
        """Return the largest value that ``name`` can take: in the space, else in the default, else ``otherwise``."""
        for dimension in self.dimensions:
            if dimension.name == name:
                return float(max(dimension.extremes))
        return float(self.default.get(name, otherwise))

    def to_dict(self) -> dict[str, Any]:
        """Return the dimensions as they are written in YAML."""
        return {dimension.name: dimension.to_dict() for dimension in self.dimensions}


def _is_known(dimension: Dimension, default: Mapping[str, Any]) -> bool:
    value = default.get(dimension.name)
    return value is not None or (dimension.name in default and None in dimension.choices)


def parse_space(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> SearchSpace:
    """Read a space from its YAML form.

    Args:
        values: Name -> mapping with type (float, int or categorical), low, high, log, choices, when.
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
    for index, dimension in enumerate(dimensions):
        _check_condition(dimension, dimensions[:index])
    return SearchSpace(dimensions, dict(defaults))


def _parse_dimension(name: str, entry: Any, defaults: Mapping[str, Any]) -> Dimension:
    if name not in defaults:
        raise ParameterError(
            f"{_SECTION}.{name} is not a parameter that can be searched.{suggestion(name, defaults)}",
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
    when = _parse_condition(name, entry.get("when", {}))
    dimension = Dimension(name=name, **{**entry, "choices": tuple(choices), "when": when})
    _check_against_default(dimension, defaults[name])
    return dimension


def _parse_condition(name: str, when: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, Mapping):
        raise _bad(name, "when", when, "a mapping such as {optimizer: [adamw]}")
    return {
        str(other): tuple(values) if isinstance(values, list | tuple) else (values,) for other, values in when.items()
    }


def _check_condition(dimension: Dimension, earlier: Sequence[Dimension]) -> None:
    """Refuse a condition on a name that is not an earlier dimension, or on values that the dimension never has."""
    by_name = {other.name: other for other in earlier}
    for name, values in dimension.when.items():
        if name not in by_name:
            expected = f"a dimension before {_SECTION}.{dimension.name}: {', '.join(by_name) or 'there is none'}"
            raise _bad(dimension.name, "when", name, expected, suggestion(name, by_name))
        other = by_name[name]
        if other.n_levels is None:
            raise _bad(dimension.name, "when", name, f"a condition on choices or whole numbers; {name} is a float")
        for value in values:
            is_possible = value in other.choices if other.choices else other.nearest(value) == value
            if not is_possible:
                raise _bad(dimension.name, f"when.{name}", value, f"values of {_SECTION}.{name}")


def _check_against_default(dimension: Dimension, default: Any) -> None:
    is_whole = isinstance(default, int) and not isinstance(default, bool)
    if default is None:
        return
    if dimension.type == "float" and is_whole:
        raise _bad(dimension.name, "type", "float", f"'int': {dimension.name} is a whole number")
    if dimension.type != "categorical" and isinstance(default, str | bool):
        raise _bad(dimension.name, "type", dimension.type, f"'categorical': {dimension.name} is {default!r} by default")


def _bad(name: str, key: str, value: Any, expected: str, hint: str = "") -> ParameterError:
    path = f"{_SECTION}.{name}.{key}" if key else f"{_SECTION}.{name}"
    return ParameterError(f"{path} is {value!r}.{hint}", f"Expected {expected}.", f"Set {path} in conf/.")
