"""The command of a new run with the weights of an earlier one, and what is said where weights are not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformer_foundry.config.run_name import RunChoice
from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.files.run_paths import runs_folder
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints
from transformer_foundry.core.training.checkpointing.run_files import read_run_record
from transformer_foundry.hooks.preflight.start import command_with, vocabulary_values
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["ignored_weights", "start_from"]

_MODEL = "model.files"


def start_from(context: RunContext, choice: RunChoice) -> str:
    """Return the command of a new run with the weights of the run of that name.

    Returns:
        Empty if there is no such command: this one does not train or already starts from weights, the tokenizer of that
        run is gone, or its model is, or may be, of another kind.
    """
    origin = runs_folder(context.data_dir) / choice.stem
    starts_from = (context.options(RunOptions).fork_from, context.options(ModelOptions).init_from)
    if not context.trains or starts_from != (None, None) or not list_checkpoints(origin):
        return ""
    if not _fits_model(context, choice, origin):
        return ""
    values = vocabulary_values(context, origin, choice.changes)
    if values is None:
        return ""
    when = "To start from its weights" + (", if its shapes still fit" if _MODEL in choice.changes else "")
    values = {"model.init_from": choice.stem, **values}
    if context.parameters["run"].get("on_change") == "refuse":
        values["run.on_change"] = "new"
    return f"{when}: {command_with(context, values)}"


def ignored_weights(context: RunContext) -> str:
    """Return that a search starts from new weights although others are asked for; empty if it is not so."""
    given = {
        "model.init_from": context.options(ModelOptions).init_from,
        "run.fork_from": context.options(RunOptions).fork_from,
    }
    names = [f"{name}={value}" for name, value in given.items() if value is not None]
    if context.study is None or not names:
        return ""
    use = "only the training after it begins so" if context.trains else "not used here, only by a training"
    return f"The search trains from new weights. {' and '.join(names)}: {use}."


def _fits_model(context: RunContext, choice: RunChoice, origin: Path) -> bool:
    """Return whether the model is known to be of the kind of that run: validated as such, or of the same config."""
    if {"model.kind", "model.task"} & choice.changes.keys():
        return False
    if _MODEL not in choice.changes:
        return "model.source" not in choice.changes  # a gist that is not read yet
    kinds = [_kind_of(context, identity) for identity in choice.changes[_MODEL]]
    if None not in kinds:
        return kinds[0] == kinds[1]
    recorded = (read_run_record(origin).get("identity") or {}).get("config", "unknown")
    return bool(_config_digest(context) == recorded)


def _kind_of(context: RunContext, identity: object) -> str | None:
    """Return the kind of a model, from a report of its checks; None if it has not been validated."""
    for path in context.paths.shared_reports.parent.glob("*/validation_report.json"):
        try:
            report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if report["model"]["identity"] == identity:
                kind = report["kind"]
                return None if kind is None else str(kind)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return None


def _config_digest(context: RunContext) -> str | None:
    from transformer_foundry.core.models.source.read import read_export

    source = Path(context.options(ModelOptions).source).expanduser()
    try:
        return read_export(str(source)).sha256["config.json"] if source.is_dir() else None
    except FoundryError:  # the check before the run reports it
        return None
