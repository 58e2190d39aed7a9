"""Parameters to reproduce a run from its manifest.

A manifest may come from someone else: it may say how to train, but not what is read, run or approved. ``TAKEN`` names
what it sets. What names a place (``PLACES``) must be in the user's own configuration too; everything else, such as the
approval of code, comes from there alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.data.options import BUILT_IN_SOURCES, DataOptions
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["PLACES", "TAKEN", "recorded_parameters"]

_SECTIONS: Mapping[str, type[Any]] = {"model": ModelOptions, "data": DataOptions, "training": TrainingOptions}

PLACES: Mapping[str, tuple[str, ...]] = {
    "model": ("source", "revision", "init_from"),
    "data": ("source", "revision", "tokenizer"),
    "training": (),
}
"""Parameters that name what is read or run: the manifest and the user's configuration must agree on them."""

TAKEN: Mapping[str, tuple[str, ...]] = {
    "model": ("kind", "task"),
    "data": (
        "config_name", "split", "streaming", "document", "header", "columns", "table", "encoding", "text_column",
        "target_column", "label_column", "label_columns", "label_separator", "pair_column", "split_column",
        "vocab_size", "template", "loss_on", "span_corruption", "max_length", "validation_share", "test_share",
        "drop_near_duplicates", "max_documents", "seed",
    ),
    "training": tuple(field.name for field in dataclasses.fields(TrainingOptions) if field.name != "use_best"),
}  # fmt: skip
"""Parameters whose recorded values are used: they choose how the data are read and what a step computes."""

_HARMLESS = {
    "model.revision": (None,),
    "model.init_from": (None,),
    "data.revision": (None,),
    "data.source": BUILT_IN_SOURCES,
    "data.tokenizer": ("auto", "bpe", "bytes", "characters", "word", "wordpiece"),
}
"""Values of ``PLACES`` that name nothing outside this package."""


def recorded_parameters(path: Path, own: Mapping[str, Any], *, fork_from: str | None = None) -> dict[str, Any]:
    """Return the sections ``model``, ``data`` and ``training``: the user's, with the recorded values of ``TAKEN``.

    Args:
        path: The run's ``manifest.json``.
        own: The user's configuration, by section.
        fork_from: The checkpoint to start from; required to reproduce a fork.

    Raises:
        ParameterError: If it is not the manifest of a run, it is the manifest of a fork and ``fork_from`` is None, or
            it names a model, data or tokenizer that the user's configuration does not name.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        recorded = {name: dict(manifest["parameters"][name]) for name in _SECTIONS}
        first_step = int(manifest["sessions"][0]["step"]) if manifest.get("sessions") else 0
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as err:
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
    _refuse_unknown(path, recorded)
    sections = {name: _own_section(own, name) for name in _SECTIONS}
    _require_own_places(path, recorded, sections)
    for name, section in sections.items():
        section |= {key: recorded[name][key] for key in TAKEN[name] if key in recorded[name]}
    # The recorded values contain those of the search.
    sections["training"]["use_best"] = False
    return sections


def _own_section(own: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the user's values of what the manifest does not set; what it leaves out has its default."""
    values = own.get(name)
    return {key: values[key] for key in values if key not in TAKEN[name]} if isinstance(values, Mapping) else {}


def _refuse_unknown(path: Path, recorded: Mapping[str, Mapping[str, Any]]) -> None:
    known = {name: {field.name for field in dataclasses.fields(kind)} for name, kind in _SECTIONS.items()}
    unknown = [f"{name}.{key}" for name, values in recorded.items() for key in values if key not in known[name]]
    if unknown:
        raise ParameterError(
            f"run.reproduce is {str(path)!r}, which has the unknown parameter {short_list(unknown, 3)}.",
            "Expected the manifest of a run of this version or an earlier one.",
            "Reproduce the run with the version that made it: 'environment' in the manifest names it.",
        )


def _require_own_places(
    path: Path, recorded: Mapping[str, Mapping[str, Any]], sections: Mapping[str, dict[str, Any]]
) -> None:
    """Refuse a place that the user does not name; a harmless value of the manifest is taken."""
    missing = {}
    for section, keys in PLACES.items():
        for key in keys:
            name = f"{section}.{key}"
            field = next(field for field in dataclasses.fields(_SECTIONS[section]) if field.name == key)
            found, now = recorded[section].get(key, field.default), sections[section].get(key, field.default)
            if found in _HARMLESS.get(name, ()):
                sections[section][key] = found
            elif not _is_same_place(found, now):
                missing[name] = found
    if missing:
        # A value may contain commas and names of its own: in quotes, nothing of it is another parameter.
        given = ",".join(
            f"{name}={value if _is_plain(value) else json.dumps(value)}" for name, value in missing.items()
        )
        raise ParameterError(
            f"run.reproduce is {str(path)!r}, a run with {short_list([f'{n} {v!r}' for n, v in missing.items()], 4)}.",
            "Expected the same in your own configuration: a manifest does not choose what is read or run.",
            f"If you trust it, add --params {shlex.quote(given)} (or the path on this machine).",
        )


def _is_plain(value: object) -> bool:
    # Not one word alone, which may be null or true to YAML.
    return isinstance(value, str) and re.fullmatch(r"[\w-]*[./][\w./:@-]*[A-Za-z_-]", value) is not None


def _is_same_place(recorded: object, now: object) -> bool:
    """Return whether both are equal as published, or name a file or folder that may have been moved."""
    if not (isinstance(recorded, str) and isinstance(now, str)):
        return recorded == now
    if redact(now) == redact(recorded):
        return True
    return "://" not in recorded + now and Path(recorded.rstrip("/")).name == Path(now.rstrip("/")).name != ""
