"""Options: frozen dataclasses whose fields have a description and a range, checked at construction."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from transformer_foundry.core.base.errors import ParameterError, suggestion
from transformer_foundry.core.base.text import short_list

__all__ = ["Options", "as_options", "check_options", "describe_limits", "describe_type", "option", "parse_options"]

OptionsT = TypeVar("OptionsT")


class Options(dict[str, Any]):
    """Base of an options dataclass: also a mapping of its fields, for what takes parameters apart, as trackers do.

    Example:
        ``options.max_steps``, ``options["max_steps"]`` and ``{**options, "max_steps": 9}``.
    """

    def __reduce__(self) -> tuple[Any, ...]:  # a dictionary would be filled key by key
        return _make, (type(self), dict(self))

    def _refuse_change(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be changed; dataclasses.replace(options, KEY=VALUE) copies it.")

    __setitem__ = __delitem__ = __ior__ = _refuse_change
    clear = pop = popitem = setdefault = update = _refuse_change


def _make(options_class: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    return options_class(**values)


def option(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    unit: str | None = None,
) -> Any:
    """Declare a field of an options dataclass.

    Args:
        default: The default value; a list or dict is copied for each instance.
        description: One sentence for the documentation and for error messages.
        minimum: Smallest allowed value.
        maximum: Largest allowed value.
        above: The value must be greater than this.
        below: The value must be less than this.
        choices: The allowed values.
        unit: Unit of the value, for the documentation.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "below": below,
        "choices": None if choices is None else tuple(choices),
        "unit": unit,
    }
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse_options(options_class: type[OptionsT], values: Mapping[str, Any] | None, section: str) -> OptionsT:
    """Build ``options_class`` from the YAML section ``section``: ``training``, or ``second.training`` of a namespace.

    Raises:
        ParameterError: If the section is not a mapping, a key is unknown (with the nearest known one), or a value
            has the wrong type or is out of range.
    """
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ParameterError(
            f"{section} is {values!r}.",
            f"Expected a section with keys, for example {section}.{_names(options_class)[0]}.",
            f"Write it as '{section}:' followed by indented keys.",
        )
    known = _names(options_class)
    for key in values:
        if key not in known:
            raise ParameterError(
                f"Unknown parameter {section}.{key} (value {values[key]!r}).{suggestion(str(key), known)}",
                f"Known parameters of {section}: {short_list(known)}.",
                "Correct or remove it in conf/ or in --params.",
            )
    try:
        return options_class(**values)
    except ParameterError as err:
        raise _of_section(err, section, known) from err


def _of_section(error: ParameterError, section: str, names: Sequence[str]) -> ParameterError:
    """Return an error that names the section ``second.training`` where options know themselves as ``training``."""
    own = section.rpartition(".")[2]
    pattern = re.compile(rf"(?<![\w.]){re.escape(own)}\.(?=(?:{'|'.join(names)})\b)")
    return type(error)(*(pattern.sub(f"{section}.", text) for text in (error.problem, error.expected, error.remedy)))


def as_options(options_class: type[OptionsT], values: OptionsT | Mapping[str, Any] | None, section: str) -> OptionsT:
    """Return ``values`` if they are options already, else as ``parse_options`` does: other projects give mappings.

    Raises:
        ParameterError: As ``parse_options`` does.
    """
    if isinstance(values, options_class):
        return values
    return parse_options(options_class, typing.cast("Mapping[str, Any] | None", values), section)


def check_options(options: Options, section: str) -> None:
    """Check type and range of every field, and fill the mapping; call it in ``__post_init__`` of an options dataclass.

    An integer is accepted where a float is declared, and a list where a tuple is. YAML reads the choices ``on`` and
    ``off`` as booleans: the field gets the choice.

    Raises:
        ParameterError: Naming the YAML key, the value and what was expected.
    """
    hints = typing.get_type_hints(type(options))
    for field in dataclasses.fields(typing.cast("Any", options)):
        value = _as_choice(getattr(options, field.name), field.metadata.get("choices"))
        object.__setattr__(options, field.name, value)
        dict.__setitem__(options, field.name, value)
        if not _matches(value, hints[field.name]):
            raise _bad_value(section, field, value, describe_type(hints[field.name]))
        if value is not None:
            _check_range(section, field, value)


def describe_limits(metadata: Mapping[str, Any]) -> str:
    """Return the range of an option in words; empty if it has none.

    Example:
        >>> describe_limits({"minimum": 0, "below": 1})
        'at least 0 and below 1'
    """
    words = (("minimum", "at least"), ("above", "above"), ("maximum", "at most"), ("below", "below"))
    return " and ".join(f"{word} {metadata[key]:g}" for key, word in words if metadata.get(key) is not None)


def describe_type(hint: Any) -> str:
    """Return the type of an option in words: ``a whole number or null``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    words = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(argument) for argument in arguments)
    if origin is typing.Literal:
        return "one of: " + ", ".join(str(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"a list of {describe_type(arguments[0])}"
    if origin is dict:
        return "a mapping"
    return words.get(hint, str(hint))


def _as_choice(value: Any, choices: Sequence[Any] | None) -> Any:
    """Return the choice that YAML has read as a boolean."""
    if not isinstance(value, bool) or choices is None:
        return value
    words = ("on", "yes") if value else ("off", "no")
    return next((word for word in words if word in choices), value)


def _check_range(section: str, field: dataclasses.Field[Any], value: Any) -> None:
    meta = field.metadata
    if meta.get("choices") is not None and value not in meta["choices"]:
        choices = ", ".join(str(choice) for choice in meta["choices"])
        raise _bad_value(section, field, value, f"one of: {choices}", suggestion(str(value), map(str, meta["choices"])))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    failed = (
        not math.isfinite(value)
        or (meta.get("minimum") is not None and value < meta["minimum"])
        or (meta.get("maximum") is not None and value > meta["maximum"])
        or (meta.get("above") is not None and value <= meta["above"])
        or (meta.get("below") is not None and value >= meta["below"])
    )
    if failed:
        raise _bad_value(section, field, value, f"a finite number {describe_limits(meta)}".rstrip())


def _bad_value(
    section: str, field: dataclasses.Field[Any], value: Any, expected: str, hint: str = ""
) -> ParameterError:
    default = field.default_factory() if isinstance(field.default_factory, types.FunctionType) else None
    written = "[A,B]" if isinstance(default, list) else "VALUE"
    # A mapping cannot be set with --params, which splits at commas.
    alternative = "" if isinstance(default, dict) else f" or with --params {section}.{field.name}={written}"
    if expected.startswith("text") and isinstance(value, int | float):  # YAML reads 2024 as a number
        alternative = f" in quotes, or with --params '{section}.{field.name}=\"{value}\"'"
    return ParameterError(
        f"{section}.{field.name} is {value!r}.{hint}",
        f"Expected {expected}. {field.metadata.get('description', '')}",
        f"Set {section}.{field.name} in conf/{alternative}.",
    )


def _matches(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint is type(None) or hint is None:
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_matches(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping)
    return isinstance(value, origin or hint)


def _names(options_class: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(options_class)]
