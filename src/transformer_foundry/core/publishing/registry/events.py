"""What the log of a registry says: each event is checked before anything follows from it, as the log may be foreign."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.core.files.provenance import MADE_FROM
from transformer_foundry.core.publishing.registry.model_version import ModelVersion

__all__ = ["RegistryState", "folder_name", "package_folder"]

_MOST_VERSIONS = 10**9


@dataclass
class RegistryState:
    """The versions and aliases that the events in a log lead to.

    Attributes:
        folder: The registry.
        versions: Model -> number -> version, the oldest first.
        aliases: Model -> alias -> the versions that have had it, the present one last.
    """

    folder: Path
    versions: dict[str, dict[int, ModelVersion]] = field(default_factory=dict)
    aliases: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Change the state by one event.

        Raises:
            ValueError: If it is no event of a registry; with the reason.
        """
        kind = event.get("event")
        if not isinstance(kind, str) or kind not in _FIELDS:
            raise ValueError(f"{kind!r} is no event")
        _check_fields(event, *_FIELDS[kind])
        name = event["name"]
        if name != folder_name(name):
            raise ValueError(f"{name!r} is no name of a model")
        if kind == "registered":
            self._register(event)
        elif kind == "published":
            self._publish(event)
        elif kind == "alias":
            self._known(name, event["version"])
            self._history(event).append(event["version"])
        elif len(self._history(event)) < 2:
            raise ValueError(f"no version of {name} had the alias {event['alias']!r} before")
        else:
            self._history(event).pop()

    def _register(self, event: Mapping[str, Any]) -> None:
        name, version = event["name"], event["version"]
        # A line that was deleted by hand leaves a gap.
        if not max(self.versions.get(name, {}), default=0) < version < _MOST_VERSIONS:
            raise ValueError(f"{name}:{version} is not the next version")
        fields = {key: event[key] for key in event if key not in ("event", "alias")}
        item = ModelVersion(folder=package_folder(self.folder, name, version), **fields)
        self.versions.setdefault(name, {})[version] = item
        if "alias" in event:
            self._history(event).append(version)

    def _publish(self, event: Mapping[str, Any]) -> None:
        name, version = event["name"], event["version"]
        item = self._known(name, version)
        publication = {key: event[key] for key in event if key not in ("event", "name", "version")}
        self.versions[name][version] = dataclasses.replace(item, publications=(*item.publications, publication))

    def _known(self, name: str, version: int) -> ModelVersion:
        if version not in self.versions.get(name, {}):
            raise ValueError(f"there is no version {version} of {name}")
        return self.versions[name][version]

    def _history(self, event: Mapping[str, Any]) -> list[int]:
        return self.aliases.setdefault(event["name"], {}).setdefault(event["alias"], [])


def package_folder(registry: Path, name: str, version: int) -> Path:
    """Return the folder of a version in a registry."""
    return registry / name / f"v{version}"


def folder_name(name: str) -> str:
    """Return a model's name as the registry keeps it: a folder has it, and ':' or '@' follows it in references."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _has_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _has_texts_and_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str | int) for item in value.values())


_Fields = dict[str, Callable[[object], bool]]
_NAME: _Fields = {"event": _is_text, "name": _is_text}
_VERSION: _Fields = {**_NAME, "version": _is_whole}
_REGISTERED: _Fields = {
    "package_sha256": _is_text,
    "registered_at": _is_text,
    "data_fingerprint": _is_text_or_none,
    "metrics": _has_numbers,
    "lineage": _is_mapping,
}
# Event -> the fields that it must have, and those that it may have.
_FIELDS: dict[str, tuple[_Fields, _Fields]] = {
    "registered": (_VERSION | _REGISTERED, {"alias": _is_text, MADE_FROM: _has_texts_and_numbers}),
    "published": (
        _VERSION | {"repo_id": _is_text, "tag": _is_text, "revision": _is_text},
        {"difference": _is_number, "url": _is_text},
    ),
    "alias": (_VERSION | {"alias": _is_text}, {}),
    "rolled back": (_NAME | {"alias": _is_text}, {}),
}


def _check_fields(event: Mapping[str, Any], required: _Fields, optional: _Fields) -> None:
    for name in required:
        if name not in event:
            raise ValueError(f"it has no {name}")
    for name, value in event.items():
        is_valid = required.get(name) or optional.get(name)
        if is_valid is None:
            raise ValueError(f"an event has no {name!r}")
        if not is_valid(value):
            raise ValueError(f"{name} cannot be {value!r}")
