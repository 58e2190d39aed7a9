"""Leave out of a record what does not belong to the run's best checkpoint, and say what it is and what renews it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_foundry.core.data.tokenized.dataset import read_fingerprint
from transformer_foundry.core.files.provenance import (
    Origin,
    difference_text,
    digest_of,
    origin_differences,
    origin_of,
    run_origin,
)
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.reports.rendering import mapping
from transformer_foundry.core.reports.run_record import Row, RunRecord, default_command, read_files
from transformer_foundry.core.studies.tuning.results.summary import trials_digest
from transformer_foundry.core.training.checkpointing.directory import best_origin

__all__ = ["join", "read_run"]

_CHECKPOINT = ("model", "data", "weights", "step")


@dataclass(frozen=True)
class _Part:
    """A part of a record.

    Attributes:
        name: Its attribute of ``RunRecord``.
        section: The section of the report that shows it.
        words: What it is.
        names: In what it must be the same as the run's best checkpoint.
        pipeline: What renews it.
    """

    name: str
    section: str
    words: str
    names: tuple[str, ...]
    pipeline: str


_EVALUATION = _Part("evaluation", "baselines", "The evaluation is", _CHECKPOINT, "training")
_PARTS = (
    _Part("validation", "verdict", "The report of the checks is", ("model",), "validation"),
    _Part("profile", "data", "The profile of the data is", ("data",), "data_engineering"),
    _EVALUATION,
    _Part("errors", "errors", "The error analysis is", _CHECKPOINT, "training"),
    _Part("samples", "samples", "The samples of the trained model are", _CHECKPOINT, "training"),
    _Part("models", "models", "The comparison of models is", ("data",), "comparison"),
    _Part("comparison", "tuning", "The result of the search is", ("model", "data"), "tuning"),
    _Part("best", "tuning", "The best parameters are", ("model", "data"), "tuning"),
    _Part("package", "parity", "The package is", (*_CHECKPOINT, "evaluation"), "deployment"),
)


def read_run(
    paths: RunPaths,
    results: Mapping[str, Row] | None = None,
    command: Callable[[str], str] = default_command,
    *,
    files: Mapping[str, Path] | None = None,
    trials: Sequence[Row] | None = None,
) -> RunRecord:
    """Read what there is of the run with the folders ``paths``; what does not belong together is left out.

    Args:
        paths: The folders.
        results: Results that are kept elsewhere, by the names of the attributes of ``RunRecord``.
        command: Returns the command that runs a pipeline for this run.
        files: Where the parts are, by the keys of ``RunRecord.files``; their usual files by default.
        trials: Rows of the table of trials, if they are not read from a file.
    """
    return join(read_files(paths, results, command, files=files, trials=trials))


def join(record: RunRecord) -> RunRecord:
    """Return ``record`` with its parts that belong to the run's best checkpoint, and a sentence for each other part.

    Before the first checkpoint, what the run was started with counts; before the run, the prepared data.
    """
    origin = _origin(record)
    expected = dict(origin)
    if record.evaluation and not _problem(_EVALUATION, origin_of(record.evaluation), origin):
        expected["evaluation"] = digest_of(record.evaluation)
    changes: dict[str, Any] = {}
    outdated: dict[str, list[str]] = defaultdict(list)
    for part in _PARTS:
        artefact = getattr(record, part.name)
        if artefact and (problem := _problem(part, origin_of(artefact), expected)):
            changes[part.name] = {}
            renew = record.command(part.pipeline)
            outdated[part.section].append(f"{part.words} {problem}. Not shown; renew with: {renew}")
    joined = dataclasses.replace(record, **changes, origin=origin)
    if not joined.package:
        joined = dataclasses.replace(joined, publications=())
    if joined.trials and _trials_of(joined) != origin_of(joined.comparison).get("trials"):
        joined = dataclasses.replace(joined, trials=())
        if not outdated["tuning"]:
            renew = record.command("tuning")
            outdated["tuning"].append(f"The search has not ended with these trials. Not shown; renew with: {renew}")
    return dataclasses.replace(joined, outdated={name: tuple(texts) for name, texts in outdated.items() if texts})


def _origin(record: RunRecord) -> dict[str, str | int]:
    found = best_origin(record.paths.run)
    if found:
        return found
    if identity := mapping(record.manifest.get("identity")):
        return run_origin({name: str(digest) for name, digest in identity.items()})
    data = read_fingerprint(record.files["tokens"]) if "tokens" in record.files else None
    return {} if data is None else {"data": data}


def _problem(part: _Part, found: Origin, expected: Origin) -> str:
    """Return why a part does not belong, as the end of a sentence; empty if it does."""
    if "weights" in part.names and "weights" not in expected:
        return "of a checkpoint that is no longer there"
    if not origin_differences(expected, found, part.names):
        return "" if found else "of unknown origin"
    return f"of {difference_text(expected, found, part.names)}"


def _trials_of(record: RunRecord) -> str | None:
    try:
        return trials_digest(record.trials)
    except (KeyError, ValueError, TypeError):
        return None
