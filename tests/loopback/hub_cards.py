"""The checks that the Hub makes of a card's front matter, reduced to the ones people trip over."""

from __future__ import annotations

import math
import re
from typing import Any

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)?---[ \t]*(\r?\n|\Z)", re.S)


def card_metadata(text: str) -> Any:
    """Return what the front matter says, None if there is none."""
    import yaml

    found = _FRONT_MATTER.match(text)
    return (yaml.safe_load(found[1] or "") or {}) if found else None


def card_errors(text: str, kind: str = "models") -> list[str]:
    """Return what the Hub would refuse a commit for."""
    import yaml

    try:
        metadata = card_metadata(text)
    except yaml.YAMLError as err:
        return [f"YAML metadata error: {err}"]
    if not metadata:
        return []
    if not isinstance(metadata, dict):
        return ["YAML metadata must be an object"]
    errors = [
        f'"{key}" must be a string or an array of strings'
        for key in ("tags", "datasets", "metrics")
        if metadata.get(key) is not None and not _is_text_or_texts(metadata[key])
    ]
    errors += [
        f'"{key}" must be a string'
        for key in ("library_name", "pipeline_tag", "license_name", "thumbnail")
        if metadata.get(key) is not None and not isinstance(metadata[key], str)
    ]
    # An unquoted `no` is read as False by YAML.
    languages = metadata.get("language") or []
    for language in [languages] if isinstance(languages, str) else languages:
        if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            errors.append(f'"language" with value {language!r} is not valid: use an ISO 639 code')
    return errors + (_model_index_errors(metadata.get("model-index") or []) if kind == "models" else [])


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _model_index_errors(entries: list[Any]) -> list[str]:
    errors = []
    for number, entry in enumerate(entries):
        where = f"model-index[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            errors.append(f'"{where}.name" is required')
            continue
        for position, result in enumerate(entry.get("results") or []):
            errors += _result_errors(f"{where}.results[{position}]", result)
    return errors


def _result_errors(where: str, result: dict[str, Any]) -> list[str]:
    errors = []
    if not isinstance(result.get("task", {}).get("type"), str):
        errors.append(f'"{where}.task.type" is required')
    dataset = result.get("dataset")
    if dataset is not None and not all(isinstance(dataset.get(key), str) for key in ("type", "name")):
        errors.append(f'"{where}.dataset" needs type and name')
    for number, metric in enumerate(result.get("metrics") or []):
        value = metric.get("value")
        if not isinstance(metric.get("type"), str):
            errors.append(f'"{where}.metrics[{number}].type" is required')
        if value is None or (isinstance(value, float) and math.isnan(value)):
            errors.append(f'"{where}.metrics[{number}].value" is required')
    return errors
