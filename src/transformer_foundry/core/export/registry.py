"""A registry of models: packages under a name and a version, aliases that say which one counts, and their origin.

It is a folder: ``log.jsonl``, to which lines are only added, and the packages themselves, ``NAME/v3``. What counts is
what the log says; a line is on the disk before a call returns, and a line that a crash has cut off is no line. Two
processes take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.core.errors import DeploymentError, suggestion
from transformer_foundry.core.export.files import MANIFEST_FILE, file_sha256
from transformer_foundry.core.export.package import Package, read_package, require_whole
from transformer_foundry.core.training.durable import sync

__all__ = ["CANDIDATE", "PRODUCTION", "ModelVersion", "Registration", "Registry"]

CANDIDATE, PRODUCTION = "candidate", "production"
_LOG = "log.jsonl"
_CHECK_LENGTH = 16
# Files of at least so many bytes are shared with the package's own folder where the disk can do that.
_SHARED_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    Attributes:
        name: Name of the model.
        version: Counts from 1.
        folder: Its package.
        package_sha256: Digest of the package's manifest, which has that of every file.
        registered_at: When, in UTC.
        data_fingerprint: Of the data it was trained and tested on; None if unknown.
        metrics: What was measured on the test split.
        lineage: ``run``, ``step``, ``model`` (identity of code and configuration), ``tracking_url`` and the like.
        publications: ``repo_id``, ``tag``, ``revision`` of each release on the Hub.
        aliases: Such as ``candidate`` and ``production``.
    """

    name: str
    version: int
    folder: Path
    package_sha256: str
    registered_at: str
    data_fingerprint: str | None
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]
    publications: tuple[Mapping[str, Any], ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registration:
    """What a registry is to remember.

    Attributes:
        package: The package.
        name: Name of the model; that of the export by default.
        lineage: Where the package is from.
        publication: What ``publish`` returned, empty if the package was not published.
    """

    package: Package
    name: str | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    publication: Mapping[str, Any] = field(default_factory=dict)

    def enter(self, registry: Registry) -> ModelVersion:
        """Register the package, and where it was published."""
        version = registry.register(self.package, self.name, **self.lineage)
        if self.publication.get("revision"):
            registry.note_publication(version, self.publication)
        return version


@dataclass
class _State:
    versions: dict[str, list[ModelVersion]] = field(default_factory=dict)
    # Name -> alias -> the versions that had it, the present one last.
    aliases: dict[str, dict[str, list[int]]] = field(default_factory=dict)


class Registry:
    """The registry in ``folder``, which need not exist yet."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def versions(self) -> dict[str, list[ModelVersion]]:
        """Return the versions of each model, the oldest first, with their aliases."""
        state = self._read()
        return {name: [self._with_aliases(state, item) for item in items] for name, items in state.versions.items()}

    def find(self, reference: str) -> ModelVersion:
        """Return ``NAME`` (the newest version), ``NAME:VERSION`` or ``NAME@ALIAS``.

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
        """Keep ``package`` as the next version of a model and make it the candidate; the same package is kept once.

        Args:
            package: The package; its files are copied, or shared where that is possible.
            name: Name of the model; that of the export by default.
            **lineage: Where it is from, for example ``run``.

        Raises:
            DeploymentError: If the package is damaged or lacks a format that was asked for.
        """
        package = read_package(package.folder)
        require_whole(package)
        manifest = package.manifest
        # It names a folder, and is followed by ':' or '@' where it is asked for.
        name = re.sub(r"[^\w.-]+", "-", name or str(manifest["model"]["name"])).strip("-.") or "model"
        digest = file_sha256(package.folder / MANIFEST_FILE)
        with self._locked():
            known = self._read().versions.get(name, [])
            for item in known:
                if item.package_sha256 == digest:
                    return self.find(f"{name}:{item.version}")
            version = len(known) + 1
            _keep(package.folder, self._package_folder(name, version))
            event = {
                "event": "registered",
                "name": name,
                "version": version,
                "package_sha256": digest,
                "registered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "data_fingerprint": manifest["data"].get("fingerprint"),
                "metrics": _numbers(manifest["evaluation"].get("test") or {}),
                "lineage": {"model": manifest["model"]["identity"], "step": manifest["training"]["step"]} | lineage,
            }
            self._append(event, {"event": "alias", "name": name, "alias": CANDIDATE, "version": version})
        return self.find(f"{name}:{version}")

    def of(self, package: Package) -> ModelVersion:
        """Return the version that ``package`` is.

        Raises:
            DeploymentError: If it is none.
        """
        digest = file_sha256(package.folder / MANIFEST_FILE)
        for items in self.versions().values():
            for item in items:
                if item.package_sha256 == digest:
                    return item
        raise DeploymentError(
            f"The package in {package.folder} is not in the registry in {self.folder}.",
            "Every package is registered before it is published.",
            "Run 'kedro run --pipelines deployment'.",
        )

    def note_publication(self, version: ModelVersion, publication: Mapping[str, Any]) -> None:
        """Remember where a version was published: ``repo_id``, ``tag``, ``revision``."""
        kept = {key: publication[key] for key in ("repo_id", "tag", "revision", "difference") if key in publication}
        with self._locked():
            if kept not in self.find(f"{version.name}:{version.version}").publications:
                self._append({"event": "published", "name": version.name, "version": version.version} | kept)

    def promote(
        self, version: ModelVersion, alias: str = PRODUCTION, *, metric: str = "loss", force: bool = False
    ) -> ModelVersion | None:
        """Give ``version`` the alias, if it is better than the version that has it; return that one.

        Args:
            version: The version.
            alias: The alias.
            metric: Name of the metric of the test split; of loss, perplexity and bits per byte the lower is better.
            force: Give it the alias in any case.

        Raises:
            DeploymentError: If it is not better, or the two were not tested on the same data.
        """
        with self._locked():
            state = self._read()
            history = state.aliases.get(version.name, {}).get(alias, [])
            present = state.versions[version.name][history[-1] - 1] if history else None
            if present is not None and present.version == version.version:
                return present
            if not force:
                _require_better(version, present, metric)
            self._append({"event": "alias", "name": version.name, "alias": alias, "version": version.version})
        return present

    def roll_back(self, name: str, alias: str = PRODUCTION) -> ModelVersion:
        """Give the alias back to the version that had it before, and return that one.

        Raises:
            DeploymentError: If no other version had it.
        """
        self.find(name)
        with self._locked():
            history = self._read().aliases.get(name, {}).get(alias, [])
            if len(history) < 2:
                raise DeploymentError(
                    f"No version of {name} was {alias} before.",
                    f"Expected two promotions at least; there {'was one' if history else 'were none'}.",
                    f"Name a version with 'kedro models promote {name}:VERSION --alias {alias} --force'.",
                )
            self._append({"event": "rolled back", "name": name, "alias": alias})
        return self.find(f"{name}@{alias}")

    def _package_folder(self, name: str, version: int) -> Path:
        return self.folder / name / f"v{version}"

    def _with_aliases(self, state: _State, item: ModelVersion) -> ModelVersion:
        owned = state.aliases.get(item.name, {})
        aliases = tuple(sorted(alias for alias, history in owned.items() if history and history[-1] == item.version))
        return dataclasses.replace(item, aliases=aliases)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out; the system takes the lock back when a process ends, however that happens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            with contextlib.suppress(ImportError):  # Windows
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self) -> _State:
        state = _State()
        path = self.folder / _LOG
        data = path.read_bytes() if path.exists() else b""
        # What follows the last line end was cut off by a crash: it was never acknowledged.
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
            self._apply(state, _checked(line, path, number))
        return state

    def _apply(self, state: _State, event: Mapping[str, Any]) -> None:
        name = event["name"]
        if event["event"] == "registered":
            fields = {key: event[key] for key in event if key != "event"}
            item = ModelVersion(folder=self._package_folder(name, event["version"]), **fields)
            state.versions.setdefault(name, []).append(item)
        elif event["event"] == "published":
            at = event["version"] - 1
            item = state.versions[name][at]
            publication = {key: event[key] for key in event if key not in ("event", "name", "version")}
            state.versions[name][at] = dataclasses.replace(item, publications=(*item.publications, publication))
        else:
            history = state.aliases.setdefault(name, {}).setdefault(event["alias"], [])
            if event["event"] == "alias":
                history.append(event["version"])
            else:
                history.pop()

    def _append(self, *events: Mapping[str, Any]) -> None:
        """Add lines to the log, durably; the caller holds the lock."""
        path = self.folder / _LOG
        with path.open("ab+") as file:
            file.seek(0)
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
            for event in events:
                text = json.dumps(event, sort_keys=True)
                file.write(f"{_check(text)} {text}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        sync(self.folder)


def _require_better(version: ModelVersion, present: ModelVersion | None, metric: str) -> None:
    remedy = "Evaluate it on the test split, or promote it in any case with --force."
    reference = f"{version.name}:{version.version}"
    if metric not in version.metrics:
        raise DeploymentError(
            f"{reference} has no {metric} on the test split.{suggestion(metric, version.metrics)}",
            f"Known: {', '.join(version.metrics) or 'nothing'}.",
            remedy,
        )
    if present is None:
        return
    if version.data_fingerprint is None or version.data_fingerprint != present.data_fingerprint:
        raise DeploymentError(
            f"{reference} and {present.name}:{present.version} were not tested on the same data "
            f"({str(version.data_fingerprint)[:12]} and {str(present.data_fingerprint)[:12]}).",
            "Only figures of the same test data can be compared.",
            "Train it on the data of the other, or promote it in any case with --force.",
        )
    new, old = version.metrics[metric], present.metrics.get(metric)
    is_lower_better = metric in ("loss", "perplexity", "bits_per_byte")
    if old is not None and not (new < old if is_lower_better else new > old):
        raise DeploymentError(
            f"{reference} is not better than {present.name}:{present.version}: {metric} {new:.6g} against {old:.6g}.",
            f"Expected a {'lower' if is_lower_better else 'higher'} {metric} on the test split.",
            "Train a better one, or promote it in any case with --force.",
        )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "targets"}


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_CHECK_LENGTH]


def _checked(line: bytes, path: Path, number: int) -> dict[str, Any]:
    text = line.decode("utf-8", errors="replace")
    check, _, body = text.partition(" ")
    if check != _check(body):
        raise DeploymentError(
            f"Line {number} of {path} is damaged.",
            "Every line begins with its own checksum.",
            f"Restore {path.name} from a copy, or delete that line if you know what it said.",
        )
    event: dict[str, Any] = json.loads(body)
    return event


def _keep(source: Path, target: Path) -> None:
    """Copy a package, whole or not at all."""
    unfinished = target.with_name(f".{target.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    # Left by a crash before its line was written: it is no version.
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(source, unfinished, copy_function=_share_or_copy)
        unfinished.rename(target)
    except OSError as err:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise DeploymentError(
            f"The package cannot be kept in {target}: {err}",
            "Expected room for a copy of it.",
            f"Make room, or delete versions that you do not need; the package is complete in {source}.",
        ) from err
    sync(target.parent)


def _share_or_copy(source: str, target: str) -> str:
    """Link what is large: a package is replaced as a whole, its weights are never written to again."""
    if os.path.getsize(source) >= _SHARED_BYTES:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return target
    shutil.copyfile(source, target)
    sync(Path(target))
    return target
