"""The name of the run that a command works on: found by what the run is, not by its name alone.

``run.name`` (or the name of the model's folder) is a stem. Of the runs ``gpt``, ``gpt-2``, ``gpt-3`` ... the one whose
request equals that of the command is continued. If there is none, the command makes another run beside them, so that
nothing of an earlier run changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.files.atomic import make_folder
from transformer_foundry.core.files.lock import is_locked, lock_file
from transformer_foundry.core.files.plain_files import plain_opener, read_plain_text
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER, REQUEST_FILE, RUN_MANIFEST_FILE, runs_folder
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.checkpointing.run_request import (
    Request,
    make_request,
    prepared_part,
    read_request,
    request_differences,
    unchanged_sources,
    write_request,
)
from transformer_foundry.core.training.options import TrainingOptions

__all__ = ["NAMING", "RunChoice", "accept_run", "choose_run", "request_of", "require_free"]

NAMING = (ModelOptions, DataOptions, TrainingOptions)
"""Options that decide which run a command works on."""

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>[1-9]\d*)")
_BEST_PARAMETERS = Path("tuning", "best_parameters.json")
_WORK = (CHECKPOINTS_FOLDER, "tuning", "comparison.jsonl")
"""What makes a run worth keeping: trained steps, a search, a comparison of models."""


@dataclass(frozen=True)
class RunChoice:
    """The run that a command works on.

    Attributes:
        stem: The name that was asked for.
        name: Name of the run.
        preparation: Run whose validation report, tokens and search are used.
        is_new: Whether nothing is there of this run yet.
        changes: In what the run ``stem`` differs from this command: name -> value there and value now.
        sources: The model and the data of the run ``stem``, by parameter, if they differ but still exist as they were.
        unreadable: A run that may be this one, but whose files cannot be read; empty if there is none.
    """

    stem: str
    name: str
    preparation: str
    is_new: bool = True
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    unreadable: str = ""


def choose_run(parameters: Mapping[str, Any]) -> RunChoice:
    """Return the run that a command with these parameters works on; nothing is written.

    Args:
        parameters: All sections, complete; ``run.name`` and ``run.preparation`` are stems.
    """
    run, runs = parameters["run"], _Runs.of(parameters)
    stem, preparation = run["name"], run["preparation"]
    if not any(runs.names(name) for name in {stem, preparation}):
        return RunChoice(stem, stem, preparation)
    request = request_of(parameters)
    if request.pop("training.use_best", False):
        preparation = _search_for(preparation, request, runs)
        request |= runs.best_parameters(preparation)
        choice = _choose(stem, request, runs, run)
    else:
        choice = _choose(stem, request, runs, run)
        follows = preparation == stem
        preparation = choice.name if follows else _choose(preparation, prepared_part(request), runs, run).name
    found = runs.requests(stem) if choice.changes.keys() & {"model.files", "data.files"} else []
    return dataclasses.replace(choice, preparation=preparation, sources=unchanged_sources(found[0]) if found else {})


def require_free(choice: RunChoice, parameters: Mapping[str, Any]) -> None:
    """Refuse a new run whose name another process has taken since it was chosen.

    Raises:
        CheckpointError: If that is so.
    """
    if choice.is_new and is_locked(_Runs.of(parameters).folder / choice.name):
        raise _taken(choice.name)


def accept_run(choice: RunChoice, parameters: Mapping[str, Any]) -> None:
    """Keep in the folder of the run what it is, before its first node: from now on its name is taken.

    Raises:
        CheckpointError: If another process has taken the name for another run since it was chosen.
        OSError: If the folder cannot be written.
    """
    runs = _Runs.of(parameters)
    request = request_of(parameters)
    if request.pop("training.use_best", False):
        request |= runs.best_parameters(choice.preparation)
    with _names_locked(runs.folder):
        found = read_request(runs.folder / choice.name)
        if found is not None and request_differences(found, request) and runs.has_work(choice.name):
            if not _is_same_but_fork(found, request):
                raise _taken(choice.name)
            return
        # What an earlier version trained is known from its manifest only: its data may have been others than now.
        if not (runs.folder / choice.name / RUN_MANIFEST_FILE).is_file() and found != request:
            write_request(runs.folder / choice.name, request)
        if choice.preparation != choice.name and not runs.requests(choice.preparation):
            write_request(runs.folder / choice.preparation, prepared_part(request))


def request_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run with these parameters starts with; ``training.use_best`` only if it is true."""
    model = as_options(ModelOptions, parameters.get("model"), "model")
    data = as_options(DataOptions, parameters.get("data"), "data")
    training = as_options(TrainingOptions, parameters.get("training"), "training")
    request = make_request(model, data, training, fork_from=(parameters.get("run") or {}).get("fork_from"))
    return {**request, "training.use_best": True} if training.use_best else request


def _choose(stem: str, request: Request, runs: _Runs, run: Mapping[str, Any]) -> RunChoice:
    may_add = run.get("on_change") != "refuse"
    names = runs.names(stem) if may_add else [name for name in runs.names(stem) if name == stem]
    of_stem: Mapping[str, tuple[Any, Any]] = {}
    unreadable = ""
    for name in names:
        changes = runs.differences(name, request, is_named=name == stem)
        if changes == {}:
            return RunChoice(stem, name, name, is_new=False, changes=of_stem)
        if name == stem:
            of_stem = changes or {}
        if changes is None and not unreadable and not runs.is_free(name):
            unreadable = name
    if unreadable or not may_add:
        return RunChoice(stem, unreadable or stem, stem, changes=of_stem, unreadable=unreadable)
    numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
    name = next(name for name in numbered if runs.is_free(name))
    return RunChoice(stem, name, name, changes=of_stem if name != stem else {})


def _search_for(stem: str, request: Request, runs: _Runs) -> str:
    """Return the run under ``stem`` that has a search with this model and data; ``stem`` if there is none."""
    wanted = prepared_part(request)
    fitting = [name for name in runs.names(stem) if runs.differences(name, wanted) == {}]
    return next((name for name in fitting if runs.best_parameters(name)), (fitting or [stem])[0])


@dataclass(frozen=True)
class _Runs:
    """The folders of all runs, on this machine and in the copy on Drive: a new machine finds the same names."""

    folder: Path
    copies: Path | None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> _Runs:
        return cls(
            runs_folder(parameters["data_dir"]), find_folder((parameters.get("drive") or {}).get("folder", "auto"))
        )

    def names(self, stem: str) -> list[str]:
        """Return the names under ``stem`` that exist, by their numbers."""
        found = {1: stem} if any((root / stem).is_dir() for root in self._roots) else {}
        for root in self._roots:
            with contextlib.suppress(OSError):  # none yet, or a Drive that does not answer: its callback says so
                for path in root.iterdir():
                    match = _NUMBERED.fullmatch(path.name)
                    if match and match["stem"] == stem and int(match["number"]) > 1:
                        found[int(match["number"])] = path.name
        return [found[number] for number in sorted(found)]

    def requests(self, name: str) -> list[dict[str, Any]]:
        """Return the requests of a run that can be read: here, and in the copy."""
        return [request for root in self._roots if (request := read_request(root / name)) is not None]

    def differences(self, name: str, request: Request, *, is_named: bool = False) -> dict[str, tuple[Any, Any]] | None:
        """Return in what a run differs from ``request``; None if it has no request that can be read.

        A search that an earlier version made has no request: what may change in it is checked when it is continued.
        """
        found = self.requests(name)
        if not found:
            return {} if self._has_search_only(name) else None
        merged: dict[str, tuple[Any, Any]] = {}
        for recorded in found:
            merged |= request_differences(recorded, request)
        if is_named and request.get("run.fork_from") is None:
            merged.pop("run.fork_from", None)  # a fork that is named is continued without naming its origin again
        return merged

    def is_free(self, name: str) -> bool:
        """Return whether nothing would be lost if another run took this name."""
        if is_locked(self.folder / name) or self.has_work(name):
            return False
        requests = self.requests(name)
        # A request without training is that of a preparation that another run uses.
        return all(any(key.startswith("training.") for key in request) for request in requests)

    def has_work(self, name: str) -> bool:
        """Return whether a run has trained steps, a search or a comparison."""
        return any((root / name / part).exists() for root in self._work_roots for part in _WORK)

    def best_parameters(self, name: str) -> dict[str, Any]:
        """Return the values that the search of a run found, by dotted names; empty if there are none."""
        for path in self._best_files(name):
            with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
                found = json.loads(read_plain_text(path)).get("parameters") or {}
                return {f"training.{key}": value for key, value in found.items()}
        return {}

    def _best_files(self, name: str) -> Iterator[Path]:
        yield self.folder / name / _BEST_PARAMETERS
        if self.copies is not None:
            copy = self.copies / "files" / self.folder.name / name / _BEST_PARAMETERS
            yield from sorted(copy.glob(f"*/{_BEST_PARAMETERS.name}"), reverse=True)

    def _has_search_only(self, name: str) -> bool:
        of_a_run = (CHECKPOINTS_FOLDER, REQUEST_FILE, RUN_MANIFEST_FILE)
        has_run = any((root / name / part).exists() for root in self._work_roots for part in of_a_run)
        return not has_run and self.has_work(name)

    @property
    def _work_roots(self) -> list[Path]:
        """Folders with the runs, and on Drive also with their searches."""
        return self._roots if self.copies is None else [*self._roots, self.copies / "files" / self.folder.name]

    @property
    def _roots(self) -> list[Path]:
        return [self.folder] if self.copies is None else [self.folder, self.copies]


@contextlib.contextmanager
def _names_locked(runs: Path) -> Iterator[None]:
    """Let one process at a time take a name."""
    make_folder(runs)
    with open(runs / ".names.lock", "a", encoding="utf-8", opener=plain_opener) as file:
        lock_file(file, wait=True)
        yield


def _is_same_but_fork(found: Request, request: Request) -> bool:
    return request.get("run.fork_from") is None and request_differences(found, request).keys() == {"run.fork_from"}


def _taken(name: str) -> CheckpointError:
    return CheckpointError(
        f"Another process has just started the run {name} with other parameters.",
        "Expected one run for each name.",
        "Run the same command again: it takes the next name that is free.",
    )
