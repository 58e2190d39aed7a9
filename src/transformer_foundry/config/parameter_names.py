"""The names of parameters: which are ours, which the user's, which are misspelled."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from transformer_foundry.config.parameters import SECTIONS, TOP_LEVEL
from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.text import short_list

__all__ = ["check_names", "nearest_names", "unfold_dotted"]

Files: TypeAlias = Callable[[], Mapping[str, str]]

_MOST_SUGGESTED = 3
_CLOSE, _VERY_CLOSE = 0.6, 0.8
"""Ratio of ``difflib`` from which a name is close enough within its own section, and anywhere."""

_GLOBALS = "globals"
_RESOLVERS = ("parameters", "runtime_params", "oc.select")
"""Those that read parameters: ``${parameters:name}``."""


def check_names(parameters: Mapping[str, Any], *, given: Mapping[str, Any], files: Files) -> None:
    """Refuse misspelled names: unknown keys in our sections, and names of sections that are nearly ours.

    Other names at the top of ``conf`` are the user's. One that is nearly ours, or that is given for one run and not set
    in ``conf``, must be read: by an input of a node, or as ``${...}`` in a file of ``conf``. A name that begins with an
    underscore is never checked.

    Args:
        parameters: Those of all sources, by section.
        given: Those of ``--params``, ``session.create`` or a notebook, by section.
        files: Returns the text of each file of ``conf`` by path; called only if a name is in doubt.

    Raises:
        ParameterError: Naming the parameter, its value and the nearest names.
    """
    for section, values in parameters.items():
        if section in SECTIONS:
            known = _fields(section)
            for key in values if isinstance(values, Mapping) else ():
                if key not in known:
                    raise _unknown(f"{section}.{key}", values[key], f"Known parameters of {section}", known)
        elif section not in TOP_LEVEL and not str(section).startswith("_"):
            _check_section(str(section), values, is_given=section in given, files=files)


def nearest_names(name: str, *, is_section: bool = False) -> list[str]:
    """Return the valid names, with their sections, that are nearest to ``name``; none if none is near.

    Args:
        name: A dotted name, or one without a section.
        is_section: Whether its value is a mapping, so that only a section can be meant.

    Example:
        >>> nearest_names("max_step"), nearest_names("data_source"), nearest_names("trainig", is_section=True)
        (['training.max_steps'], ['data.source'], ['training'])
        >>> nearest_names("tokenizer.kind"), nearest_names("training.warmup_stable_decay")
        (['data.tokenizer'], ['training.lr_scheduler_type', 'training.decay_ratio'])
    """
    section, _, leaf = name.rpartition(".")
    if not section:
        names = SECTIONS if is_section else TOP_LEVEL
        near = [known for known in names if _distance(name, known) <= max(1, len(known) // 4)]
        if near:
            return near
    dotted = [f"{part}.{key}" for part in SECTIONS for key in _fields(part)]
    if is_section or (section and section not in SECTIONS):
        # The name of a parameter, written as if it were a section: tokenizer.kind.
        as_section = [known for known in dotted if known.rpartition(".")[2] == (section or name)]
        if as_section or is_section:
            return as_section[:_MOST_SUGGESTED]
    exact = [known for known in dotted if known.rpartition(".")[2] == leaf]
    if not exact and section in SECTIONS:
        near = difflib.get_close_matches(leaf, _fields(section), n=1, cutoff=_CLOSE)
        exact = [f"{section}.{key}" for key in near]
    if not exact:
        # data_source and datasource mean data.source; training.data_source does too.
        joined = {re.sub(r"\W|_", "", known): known for known in dotted}
        leaves = {known.rpartition(".")[2]: known for known in reversed(dotted)}
        for text, table in ((re.sub(r"\W|_", "", leaf), joined), (leaf, leaves)):
            near = difflib.get_close_matches(text, table, n=1, cutoff=_VERY_CLOSE)
            exact += [table[key] for key in near]
    if not exact and "_" in leaf:
        # The term of the field that a description explains: warmup_stable_decay.
        described = re.compile(rf"\b{re.escape(leaf)}\b")
        exact = [
            f"{part}.{field.name}"
            for part in ([section] if section in SECTIONS else SECTIONS)
            for field in dataclasses.fields(SECTIONS[part])
            if described.search(str(field.metadata.get("description", "")))
        ]
    return list(dict.fromkeys(exact))[:_MOST_SUGGESTED]


def unfold_dotted(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``parameters`` by section, where ``session.create`` or ``--config`` gave dotted names as ``--params`` has.

    Raises:
        ParameterError: If a parameter is given twice with different values.

    Example:
        >>> unfold_dotted({"training.max_steps": 3, "training": {"seed": 1}, "preset": "quick"})
        {'training': {'max_steps': 3, 'seed': 1}, 'preset': 'quick'}
    """
    unfolded: dict[str, Any] = {}
    for name, value in parameters.items():
        first, *inner = str(name).split(".")
        for key in reversed(inner):
            value = {key: value}
        _add(unfolded, first, value, first)
    return unfolded


def _add(target: dict[str, Any], key: str, value: Any, path: str) -> None:
    if isinstance(target.get(key), dict) and isinstance(value, Mapping):
        target[key] = dict(target[key])  # what was given stays as it is
        for inner, found in value.items():
            _add(target[key], inner, found, f"{path}.{inner}")
    elif key in target and target[key] != value:
        raise ParameterError(
            f"{path} is given twice: {target[key]!r} and {value!r}.",
            "Expected one value; a name with dots and the same one in its section are one parameter.",
            "Leave one of them out.",
        )
    else:
        target[key] = value


def _check_section(name: str, value: Any, *, is_given: bool, files: Files) -> None:
    near = nearest_names(name, is_section=isinstance(value, Mapping))
    if name in near:
        section, _, key = name.rpartition(".")
        raise ParameterError(
            f"{name} is one name with a dot in a file of conf/.",
            "Expected a section with indented names below it; only --params and a session take dotted names.",
            f"Write '{section}:' and, indented below it, '{key}: {value}'.",
        )
    if not (near or is_given):  # a section of the user's own, which a hook may read
        return
    texts = files()
    is_known = _is_read(name, texts) or (not near and _is_set(name, texts))
    if not is_known and not _is_read_by_nodes(name):
        globals_of = value if name == _GLOBALS and isinstance(value, Mapping) else [name]
        if any(_is_set(str(key), texts, _GLOBALS) for key in globals_of):
            near = near or [found for key in globals_of for found in nearest_names(str(key))]
            raise _unknown(name, value, f"Values of several sections are set in conf/ENV/{_GLOBALS}.yml", [], near)
        raise _unknown(name, value, "Known sections", [*SECTIONS, *TOP_LEVEL], near)


def _unknown(name: str, value: Any, title: str, known: list[str], near: list[str] | None = None) -> ParameterError:
    near = nearest_names(name) if near is None else near
    quoted = [f"'{item}'" for item in near]
    hint = f" Did you mean {' or '.join(filter(None, [', '.join(quoted[:-1]), quoted[-1]]))}?" if quoted else ""
    return ParameterError(
        f"Unknown parameter {name} (value {value!r}).{hint}",
        (f"{title}: {short_list(known, limit=12)}." if known else f"{title}.")
        + ("" if "." in name else " Others must be read by a node or as ${...}."),
        "Correct or remove it in conf/ or in --params.",
    )


def _fields(section: str) -> list[str]:
    return [field.name for field in dataclasses.fields(SECTIONS[section])]


def _is_read_by_nodes(name: str) -> bool:
    """Return whether a node of the registered pipelines reads the parameter, or all of them."""
    from kedro.framework.project import pipelines

    inputs = {name for pipeline in pipelines.values() for name in pipeline.all_inputs()}
    read = {item.removeprefix("params:").split(".")[0] for item in inputs if item.startswith("params:")}
    return name in read or "parameters" in inputs


def _is_read(name: str, texts: Mapping[str, str]) -> bool:
    """Return whether a file of ``conf`` reads the parameter: as ``${name}``, or by a resolver that knows parameters.

    ``${globals:name}`` reads another value, and ``${parameters:data.name}`` one of a section.
    """
    resolvers = "|".join(map(re.escape, _RESOLVERS))
    pattern = re.compile(rf"\$\{{\s*(?:(?:{resolvers})\s*:\s*)?{re.escape(name)}(?![\w:])")
    return any(map(pattern.search, texts.values()))


def _is_set(name: str, texts: Mapping[str, str], kind: str = "parameters") -> bool:
    """Return whether a file of parameters sets it; an entry of the catalog may have the same name."""
    pattern = re.compile(rf"""^(?:{re.escape(name)}|[{{\s]*["']{re.escape(name)}["'])\s*:""", re.MULTILINE)
    return any(pattern.search(text) for path, text in texts.items() if _is_of_kind(path, kind))


def _is_of_kind(path: str, kind: str) -> bool:
    return any(part.startswith(kind) for part in path.split("/")[-2:])


def _distance(first: str, second: str) -> int:
    """Return how many characters must be inserted, deleted, replaced or swapped with a neighbor (Damerau)."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        last, row, older = row, [i], before
        before = last
        for j, other in enumerate(second, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if older and i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
