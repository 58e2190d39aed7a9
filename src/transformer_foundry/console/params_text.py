"""The text of ``--params``: read it without guessing, write it so that it reads back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.nested import flatten

if TYPE_CHECKING:
    import yaml

__all__ = ["merge_params", "params_text", "parse_params", "value_text"]

_OPENING, _CLOSING, _QUOTES = "[{", "]}", "'\""
_INTERPOLATION = re.compile(r"(\\*)\$\{")
_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
_NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.IGNORECASE)


def parse_params(text: str) -> dict[str, Any]:
    r"""Return the parameters in a text ``SECTION.NAME=VALUE,SECTION.NAME=VALUE``.

    A value is read as YAML. Commas separate parameters unless they stand in quotes or brackets. A text that YAML would
    change (``a #b`` is ``a`` with a comment) is refused: it must be in quotes.

    Raises:
        ParameterError: If the text is not of this form, or could mean something else than it says.

    Example:
        >>> parse_params("run.name=a,data.columns=[x, 'y,z'],data.source='a, b #c.csv'")
        {'run': {'name': 'a'}, 'data': {'columns': ['x', 'y,z'], 'source': 'a, b #c.csv'}}
    """
    parsed: dict[str, Any] = {}
    for item in _split(text):
        key, equals, value = item.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names) or re.search(r"\s", key.strip()):
            raise ParameterError(
                f"--params contains {item.strip()!r}, which is not of the form SECTION.NAME=VALUE.",
                "Commas separate parameters.",
                """Put a value that contains a comma in quotes: --params 'data.source="a,b.csv"'.""",
            )
        given: Any = _value(key.strip(), value.strip())
        for name in reversed(names):
            given = {name: given}
        parsed = merge_params(parsed, given)
    return parsed


def merge_params(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the parameters of both.

    Raises:
        ParameterError: If both set the same one.
    """
    merged = dict(first)
    for name, value in second.items():
        if name not in merged:
            merged[name] = value
        elif isinstance(merged[name], Mapping) and isinstance(value, Mapping):
            merged[name] = merge_params(merged[name], value, f"{prefix}{name}.")
        else:
            raise ParameterError(
                f"--params sets {prefix}{name} twice: {merged[name]!r} and {value!r}.",
                "Expected each parameter once.",
                "Remove one of them.",
            )
    return merged


def params_text(parameters: Mapping[str, Any]) -> str:
    """Return parameters as ``--params`` takes them.

    Example:
        >>> params_text({"run": {"name": "a, b"}, "training": {"max_steps": 9}})
        'run.name="a, b",training.max_steps=9'
    """
    return ",".join(f"{name}={value_text(value)}" for name, value in flatten(parameters).items())


def value_text(value: Any) -> str:
    """Return one value as ``--params`` takes it: in quotes where it would read back as another value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))}: {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else "-.inf" if value < 0 else ".inf"
    if not isinstance(value, str):
        return str(value)
    try:
        is_plain = parse_params(f"k={value}") == {"k": value} and parse_params(f"k=[{value}]") == {"k": [value]}
    except ParameterError:
        is_plain = False
    return value if is_plain else _quoted(_without_escapes(value))


def _split(text: str) -> list[str]:
    """Return the items between the commas outside of quotes and brackets, those without content left out."""
    items: list[str] = []
    start = position = depth = 0
    quote = before = ""
    has_equals = False
    while position < len(text):
        char = text[position]
        is_value_start = (has_equals and before == "=") or (depth > 0 and before in "[{,:")
        if quote:
            if (quote == '"' and char == "\\") or (quote == char == "'" and text[position + 1 : position + 2] == "'"):
                position += 1
            elif char == quote:
                quote, before = "", "q"
        elif char in _QUOTES and is_value_start:
            quote = char
        elif char in _OPENING and (is_value_start or depth or text[position - 1 : position] == "$"):
            depth, before = depth + 1, char
        elif char in _CLOSING and depth:
            depth, before = depth - 1, char
        elif char == "," and not depth:
            items.append(text[start:position])
            start, before, has_equals = position + 1, "", False
        elif not char.isspace():
            # Only the first equals sign of an item starts its value.
            before = "" if char == "=" and has_equals and not depth else char
            has_equals = has_equals or char == "="
        position += 1
    if quote or depth:
        raise ParameterError(
            f"--params ends within {'quotes' if quote else 'brackets'}: {text[start:].strip()[:80]!r}.",
            "Expected quotes and brackets around a value to be closed.",
            """Close them, or put the whole value in quotes: --params 'run.name="a[b"'.""",
        )
    return [item for item in [*items, text[start:]] if item.strip()]


def _value(key: str, text: str) -> Any:
    import yaml  # here and below: the validation notebook has the standard library and torch only

    if not text:
        raise _ambiguous(key, text, "it is empty")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise _ambiguous(key, text, "it is not valid YAML") from err
    if root is None or root.end_mark.index != len(text):
        raise _ambiguous(key, text, "a part of it would be a comment or be lost")
    return _read(key, text, root)


def _read(key: str, text: str, node: yaml.Node) -> Any:
    """Return the value of a YAML node; refuse one that YAML takes for something else than it looks like."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, yaml.SequenceNode) and node.flow_style:
        return [_read(key, text, item) for item in node.value]
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        for name, _ in node.value:
            _read(key, text, name)
        return {str(name.value): _read(key, text, item) for name, item in node.value}
    if not isinstance(node, yaml.ScalarNode):
        raise _ambiguous(key, text, "YAML reads it as a mapping or a list")
    written = text[node.start_mark.index : node.end_mark.index]
    if node.style in ("'", '"') and written[:1] == node.style:
        return _INTERPOLATION.sub(lambda found: f"{found[1] * 2}\\${{", node.value)
    if written != node.value:
        raise _ambiguous(key, text, f"YAML reads it as {node.value!r}")
    try:
        value = dict(OmegaConf.to_container(OmegaConf.from_dotlist([f"k={written}"])))["k"]
    except (yaml.YAMLError, OmegaConfBaseException) as err:
        raise _ambiguous(key, text, "it is not valid YAML") from err
    is_clear = {str: value == written, int: _WHOLE_NUMBER.fullmatch(written), float: _NUMBER.fullmatch(written)}
    if not is_clear.get(type(value), True):
        raise _ambiguous(key, text, f"YAML reads it as {value!r}")
    return value


def _ambiguous(key: str, text: str, reason: str) -> ParameterError:
    return ParameterError(
        f"--params sets {key} to {text[:80]!r}, which is unclear: {reason}.",
        "Expected a value that means what it says: a number, true, false, null, a list [a, b], or a text.",
        f"If it is a text, put it in quotes: --params {shell_quoted(f'{key}={_quoted(text)}')}."
        if text
        else f"Write {key}=null, or {key}=\"''\" for an empty text.",
    )


def shell_quoted(text: str) -> str:
    """Return ``text`` as one word of a shell."""
    import shlex

    return shlex.quote(text)


def _quoted(text: str) -> str:
    import yaml

    return yaml.safe_dump(text, default_style='"', width=math.inf, allow_unicode=True).rstrip("\n")


def _without_escapes(text: str) -> str:
    return re.sub(r"((?:\\\\)*)\\\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)
