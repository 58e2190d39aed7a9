"""Model registry: packages by name and version, aliases such as ``production``, and the origin of each version.

A registry is a folder: ``log.jsonl``, which is only appended to and is authoritative, and the packages, ``NAME/v3``.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import DeploymentError, suggestion
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.files.atomic import sync
from transformer_foundry.core.files.folder_manifest import MANIFEST_FILE
from transformer_foundry.core.files.provenance import MADE_FROM, origin_of
from transformer_foundry.core.publishing.package.package import Package, package_files, read_package, require_whole
from transformer_foundry.core.publishing.registry.damage import find_damage, require_undamaged
from transformer_foundry.core.publishing.registry.event_log import RegistryLog
from transformer_foundry.core.publishing.registry.events import RegistryState, folder_name, package_folder
from transformer_foundry.core.publishing.registry.model_version import ModelVersion, require_better

__all__ = ["CANDIDATE", "PRODUCTION", "Registration", "Registry"]

CANDIDATE, PRODUCTION = "candidate", "production"
_logger = logging.getLogger(__name__)

_PUBLICATION_KEYS = ("repo_id", "tag", "revision", "difference", "url")
# The request of ``ioctl`` by which btrfs, XFS and others let two files share their blocks (linux/fs.h, FICLONE).
_CLONE = 0x40049409
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Registration:
    """A package to register, and its origin.

    Attributes:
        package: The package.
        name: Name of the model; that of the export by default.
        lineage: Origin of the package.
        publication: What ``publish`` returned, empty if the package was not published.
    """

    package: Package
    name: str | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    publication: Mapping[str, Any] = field(default_factory=dict)

    def enter(self, registry: Registry) -> ModelVersion:
        """Register the package and its publication, and return the version.

        Without a name and an origin, a package that is registered under any name is that version.
        """
        known = [] if self.name or self.lineage else registry.versions_of(self.package)
        version = known[0] if known else registry.register(self.package, self.name, **self.lineage)
        if self.publication.get("revision"):
            registry.note_publication(version, self.publication)
        return version


class Registry:
    """The registry in ``folder``, which need not exist yet."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._log = RegistryLog(self.folder)

    def __repr__(self) -> str:
        names = sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return f"Registry({str(self.folder)!r}, models: {shown or 'none'})"

    def versions(self) -> dict[str, list[ModelVersion]]:
        """Return the versions of each model, the oldest first, with their aliases."""
        state = self._read()
        return {
            name: [self._with_aliases(state, item) for item in items.values()] for name, items in state.versions.items()
        }

    def find(self, reference: str) -> ModelVersion:
        """Return the version that ``NAME`` (the newest), ``NAME:VERSION`` or ``NAME@ALIAS`` refers to.

        Raises:
            DeploymentError: If there is none.
        """
        name, _, alias = reference.partition("@")
        name, _, number = name.partition(":")
        versions = self.versions()
        if name not in versions:
            raise DeploymentError(
                f"There is no model {name!r} in {self.folder}.{suggestion(name, versions)}",
                f"Known: {', '.join(sorted(versions)) or 'none'}.",
                "Register one with 'kedro run --pipelines deployment', or name another root with --data-dir.",
            )
        for item in reversed(versions[name]):
            if (not alias or alias in item.aliases) and number in ("", str(item.version), f"v{item.version}"):
                return item
        known = [f"{name}:{item.version}" for item in versions[name]]
        known += [f"{name}@{alias}" for item in versions[name] for alias in item.aliases]
        raise DeploymentError(
            f"There is no {reference!r}.{suggestion(reference, known)}",
            f"Known: {', '.join(known)}.",
            "See 'kedro models list'.",
        )

    def register(self, package: Package, name: str | None = None, **lineage: Any) -> ModelVersion:
        """Store ``package`` as the next version of a model and make it the candidate; the same package is stored once.

        Files of that version that were damaged since are replaced.

        Args:
            package: The package; its files are copied.
            name: Name of the model; that of the export by default.
            **lineage: Its origin, for example ``run``.

        Raises:
            DeploymentError: If the package is damaged or lacks a format that was asked for.
        """
        package = read_package(package.folder)
        require_whole(package)
        manifest = package.manifest
        name = _model_name(package, name)
        digest = package.digest
        with self._log.locked():
            state = self._read()
            known = state.versions.get(name, {})
            for item in known.values():
                if item.package_sha256 == digest:
                    if find_damage(item) is not None:
                        _logger.warning(
                            "%s:%d in the registry was damaged: its files are replaced.", name, item.version
                        )
                        self._keep(package, item.folder)
                    return self.find(f"{name}:{item.version}")
            version = max(known, default=0) + 1
            event = {
                "event": "registered",
                "name": name,
                "version": version,
                "alias": CANDIDATE,
                "package_sha256": digest,
                "registered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "data_fingerprint": manifest["data"].get("fingerprint"),
                "metrics": _numbers(manifest["evaluation"].get("test") or {}),
                "lineage": {"model": manifest["model"]["identity"], "step": manifest["training"]["step"]} | lineage,
            }
            if origin := origin_of(manifest):
                event[MADE_FROM] = origin
            try:
                state.apply(event)
            except ValueError as err:
                raise DeploymentError(
                    f"The package in {package.folder} cannot be registered: {one_line(err, 200)}.",
                    f"Expected a {MANIFEST_FILE} as this version writes it.",
                    "Make the package again with 'kedro run --pipelines deployment'.",
                ) from err
            kept = self._keep(package, package_folder(self.folder, name, version))
            try:
                self._log.append(event)
            except DeploymentError:
                shutil.rmtree(kept, ignore_errors=True)
                raise
        return self.find(f"{name}:{version}")

    def of(self, package: Package, name: str | None = None) -> ModelVersion:
        """Return the version whose package is ``package``: of the model ``name``, or of any if None.

        Raises:
            DeploymentError: If it is not registered.
        """
        for item in self.versions_of(package):
            if name is None or item.name == _model_name(package, name):
                return item
        raise DeploymentError(
            f"The package in {package.folder} is not in the registry in {self.folder}.",
            "Every package is registered before it is published.",
            "Run 'kedro run --pipelines deployment'.",
        )

    def versions_of(self, package: Package) -> list[ModelVersion]:
        """Return the versions, of all models, whose package is ``package``."""
        versions = self.versions()
        return [item for items in versions.values() for item in items if item.package_sha256 == package.digest]

    def damage_of(self, version: ModelVersion) -> str | None:
        """Return what is wrong with the files of a version, each of which is read and hashed; None if nothing is."""
        damage = find_damage(version)
        return None if damage is None else damage.problem

    def note_publication(self, version: ModelVersion, publication: Mapping[str, Any]) -> None:
        """Record where a version was published: ``repo_id``, ``tag``, ``revision``."""
        kept = {key: publication[key] for key in _PUBLICATION_KEYS if key in publication}
        with self._log.locked():
            known = self.find(f"{version.name}:{version.version}").publications
            if not any(_release(kept) == _release(item) for item in known):
                self._log.append({"event": "published", "name": version.name, "version": version.version} | kept)

    def promote(
        self, version: ModelVersion, alias: str = PRODUCTION, *, metric: str = "loss", force: bool = False
    ) -> ModelVersion | None:
        """Give ``version`` the alias if it is better than the version that has it, and return the latter.

        Args:
            version: The version.
            alias: The alias.
            metric: Metric of the test split that decides; lower is better for loss, perplexity and bits per byte.
            force: Give it the alias without comparing.

        Raises:
            DeploymentError: If its files are damaged, it is not better, or the two were not tested on the same data.
        """
        require_undamaged(version)
        with self._log.locked():
            state = self._read()
            history = state.aliases.get(version.name, {}).get(alias, [])
            present = state.versions[version.name][history[-1]] if history else None
            if present is not None and present.version == version.version:
                return present
            if not force:
                require_better(version, present, metric)
            self._log.append({"event": "alias", "name": version.name, "alias": alias, "version": version.version})
        return present

    def roll_back(self, name: str, alias: str = PRODUCTION) -> ModelVersion:
        """Give the alias back to the version that had it before, and return that version.

        Raises:
            DeploymentError: If no other version had it, or the files of that version are damaged.
        """
        self.find(name)
        with self._log.locked():
            history = self._read().aliases.get(name, {}).get(alias, [])
            if len(history) < 2:
                raise DeploymentError(
                    f"No version of {name} was {alias} before.",
                    f"Expected two promotions at least; there {'was one' if history else 'were none'}.",
                    f"Name a version with 'kedro models promote {name}:VERSION --alias {alias} --force'.",
                )
            require_undamaged(self.find(f"{name}:{history[-2]}"))
            self._log.append({"event": "rolled back", "name": name, "alias": alias})
        return self.find(f"{name}@{alias}")

    def _with_aliases(self, state: RegistryState, item: ModelVersion) -> ModelVersion:
        owned = state.aliases.get(item.name, {})
        aliases = tuple(sorted(alias for alias, history in owned.items() if history and history[-1] == item.version))
        return dataclasses.replace(item, aliases=aliases)

    def _read(self) -> RegistryState:
        state = RegistryState(self.folder)
        for number, event in enumerate(self._log.events(), start=1):
            try:
                state.apply(event)
            except ValueError as err:
                raise self._log.damaged(number, str(err)) from err
        return state

    def _keep(self, package: Package, target: Path) -> Path:
        """Copy a package, completely or not at all, and return the new folder.

        Raises:
            DeploymentError: If it cannot be copied, or links of the registry lead outside: an earlier folder is
                deleted.
        """
        inside = self.folder.resolve() / target.relative_to(self.folder)
        if target.resolve() != inside:
            raise DeploymentError(
                f"The package cannot be kept in {target}: that is a link to {target.resolve()}.",
                f"Expected a folder of the registry {self.folder}, which is replaced as a whole.",
                "Replace the link by the folder that it leads to.",
            )
        return _copy(package, target)


def _release(publication: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(publication.get(key) for key in ("repo_id", "tag", "revision"))


def _model_name(package: Package, name: str | None) -> str:
    return folder_name(name or str(package.manifest["model"]["name"]))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "targets"}


def _copy(package: Package, target: Path) -> Path:
    unfinished = target.with_name(f".{target.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    # A crash before the event was written left this folder: no version refers to it.
    shutil.rmtree(target, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        for name in package_files(package):
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            _copy_file(package.folder / name, unfinished / name)
        unfinished.rename(target)
    except OSError as err:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise DeploymentError(
            f"The package cannot be kept in {target}: {err}",
            "Expected room for a copy of it.",
            f"Make room, or delete versions that you do not need; the package is complete in {package.folder}.",
        ) from err
    sync(target.parent)
    return target


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can: no hard link, which damage of one would damage too."""
    with source.open("rb") as read, target.open("wb") as written:
        try:
            import fcntl

            fcntl.ioctl(written.fileno(), _CLONE, read.fileno())
        except (ImportError, OSError):
            shutil.copyfileobj(read, written, _BUFFER_BYTES)
    sync(target)
