"""Packages: a folder that can be published, its manifest, and checks that it is complete."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE

__all__ = ["CARD_FILE", "Package", "list_files", "package_files", "read_package", "require_whole"]

CARD_FILE = "README.md"


@dataclass(frozen=True)
class Package:
    """A folder that can be published, and its manifest.

    Attributes:
        folder: The folder.
        manifest: Content of ``manifest.json``.
    """

    folder: Path
    manifest: Mapping[str, Any]

    def __repr__(self) -> str:
        model, training = self.manifest.get("model", {}), self.manifest.get("training", {})
        formats = [entry.get("format") for entry in self.manifest.get("formats", ())]
        return f"Package({str(self.folder)!r}, model={model.get('name')!r}, step={training.get('step')}, {formats=})"

    @property
    def digest(self) -> str:
        """Sha256 of the manifest, which holds the digest of every file: the name of the package in registry and Hub."""
        return sha256_of(self.folder / MANIFEST_FILE)

    @property
    def problems(self) -> tuple[str, ...]:
        """Reasons why the package is not what was requested: weights that do not load, formats with wrong outputs.

        A format that could not be made is no problem: the manifest gives the reason, and the others can be used.
        """
        return tuple(
            f"{entry['format']} {entry['reason']}"
            for entry in self.manifest["formats"]
            if entry["status"] == "failed" and (entry["format"] == "pytorch" or entry["stage"] == "parity")
        )


def require_whole(package: Package) -> None:
    """Refuse a package whose weights do not load, or that lacks a requested format whose outputs were wrong.

    Raises:
        DeploymentError: Naming the format, the shape and the difference.
    """
    if package.problems:
        raise DeploymentError(
            f"The package lacks what was asked for: {'; '.join(package.problems)}.",
            "Every requested format must give the model's own answers at every batch and length.",
            "Use the formats it has, leave this one out of deployment.formats, or change the model's code.",
        )


def read_package(folder: str | Path) -> Package:
    """Read a package and verify its files; the card may have been edited by hand.

    A package may come from anyone: what is published and registered of it are the files that its manifest lists, and
    none of these is a link that leads out of the package.

    Raises:
        DeploymentError: If there is no package, or a file is missing, differs from its sha256 or is not in the folder.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        expected = {str(name): str(file["sha256"]) for name, file in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise DeploymentError(
            f"There is no complete package in {folder}: {type(err).__name__}: {err}",
            f"Expected a folder with {MANIFEST_FILE}, written last.",
            "Make it with 'kedro run --pipelines deployment'.",
        ) from err
    package = Package(folder, manifest)
    for name in package_files(package):
        _require_inside(folder, name)
        if name in (CARD_FILE, MANIFEST_FILE):
            continue
        if not (folder / name).is_file() or sha256_of(folder / name) != expected[name]:
            raise DeploymentError(
                f"{name} of the package in {folder} is missing or damaged.",
                f"Expected sha256 {expected[name]}.",
                "Make the package again with 'kedro run --pipelines deployment'.",
            )
    return package


def package_files(package: Package) -> list[str]:
    """Return the names of the files that belong to a package: those of its manifest, its card and the manifest.

    The manifest is the last one. The name of a file in a folder inside has a slash.
    """
    listed = [name for name in package.manifest["files"] if name not in (CARD_FILE, MANIFEST_FILE)]
    card = [CARD_FILE] if os.path.lexists(package.folder / CARD_FILE) else []
    return [*listed, *card, MANIFEST_FILE]


def _require_inside(folder: Path, name: str) -> None:
    """Refuse a name or a link that leads out of the package; the Hub's cache keeps the files of a snapshot beside it.

    Raises:
        DeploymentError: With where it leads.
    """
    path, inside = PurePosixPath(name), folder.resolve()
    is_plain = not path.is_absolute() and ".." not in path.parts and not set(name) & set("\\\0")
    blobs = [inside.parent.parent / "blobs"] if inside.parent.name == "snapshots" else []
    target = (folder / name).resolve() if is_plain else None
    if target is None or not any(target.is_relative_to(place) for place in (inside, *blobs)):
        raise DeploymentError(
            f"{one_line(name, 100)} of the package in {folder} leads out of it{f', to {target}' if target else ''}.",
            "Expected files that are in the folder of the package, and no links to others.",
            "If you trust the package, copy the file into it; else delete the package.",
        )


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``sha256`` and ``size_bytes`` of every file in ``folder`` except the manifest, by name.

    The name of a file in a folder inside has a slash.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: {"sha256": sha256_of(folder / name), "size_bytes": (folder / name).stat().st_size}
        for name in names
        if name != MANIFEST_FILE
    }
