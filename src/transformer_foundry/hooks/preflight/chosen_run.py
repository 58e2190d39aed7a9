"""Say which run a command works on if it is not the one of that name, or refuse the command."""

from __future__ import annotations

import logging
import re
from typing import Any

from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.config.run_name import NAMING, RunChoice, accept_run, require_free
from transformer_foundry.core.base.errors import CheckpointError, ParameterError, suggestion
from transformer_foundry.core.files.run_paths import runs_folder
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.hooks.preflight.reads import writes_dataset
from transformer_foundry.hooks.preflight.start import command_with
from transformer_foundry.hooks.preflight.start_from import ignored_weights, start_from
from transformer_foundry.hooks.run_context import RunContext

__all__ = ["announce_catalog", "announce_run", "keep_name", "remedy", "require_run", "run_line"]

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"-\d+$")
_MOST_CHANGES = 3
"""Changes that a line names; so many more are counted."""

_FILES = {
    "model.files": "its model.py and config.json had another content",
    "data.files": "its data had another content",
}
_SOURCES = {"model.files": "model.source", "data.files": "data.source"}
_CONTENTS = {
    "data.address": "the address of its data was another one",
    "data.tokenizer_files": "its tokenizer had another content",
}
"""What is compared and is no parameter: no command can name what it was."""

_announced: set[str] = set()
"""Lines that this process has logged: a notebook starts many commands on one run."""


def require_run(context: RunContext) -> None:
    """Refuse a command that trains if its run cannot be read, or is another one and ``run.on_change`` is refuse.

    Raises:
        CheckpointError: If it is unknown whether the run is the one of this command, or another process has taken its
            name since.
        ParameterError: If another run of that name would have to change, ``run.preparation`` does not exist, or the
            name belongs to other sections of the parameters.
    """
    choice = context.run_choice
    if choice is not None:
        _require_preparation(context, choice)
    if choice is None or not _takes_name(context):
        return
    _require_named_sections(context, choice)
    if choice.unreadable:
        raise CheckpointError(
            f"{runs_folder(context.data_dir) / choice.unreadable} has checkpoints, but neither request.json nor "
            "manifest.json in it can be read.",
            "Expected to learn from one of them whether this command continues that run.",
            f"Restore the file from a copy, move the folder away, or train another run: run.name={choice.stem}-new.",
        )
    if context.is_main_process:
        require_free(choice, context.parameters)
    if choice.changes and choice.name == choice.stem:
        raise ParameterError(
            f"run.on_change is refuse, and the run {choice.stem} is another one: {_describe(choice)}.",
            "Expected the data, the model and the values that it was started with.",
            _refusal_remedy(remedy(context, choice)),
        )


def _require_named_sections(context: RunContext, choice: RunChoice) -> None:
    """Refuse a run whose name was chosen by other sections than it is trained with: it would not be found again."""
    for section, kind in SECTIONS.items():
        read = context.names.get(section, section)
        if kind in NAMING and read != section:
            raise ParameterError(
                f"This pipeline makes the run {choice.name} with the parameters {read}, but {section} names that run.",
                f"Expected values in {section}, or a run at a place that only this pipeline writes.",
                f"Leave out the other name of params:{section}, or rename training_run and previous_run too, with "
                "entries of their own in conf/, as docs/howto/kedro.md does.",
            )


def _require_preparation(context: RunContext, choice: RunChoice) -> None:
    """Refuse a preparation of which nothing is there, here and on Drive: a misspelled name would start one."""
    # A search of this command may make that of use_best.
    if choice.preparation == choice.name or context.options(TrainingOptions).use_best:
        return
    paths, copies = context.paths, find_folder(context.options(DriveOptions).folder)
    roots = [paths.run.parent, paths.model_input.parent, paths.shared_reports.parent, *([copies] if copies else [])]
    given = _NUMBER.sub("", choice.preparation)
    if any((root / name).exists() for root in roots for name in (given, choice.preparation)):
        return
    known = {folder.name for root in roots[:2] for folder in root.glob("*/")}
    if not known:
        return  # another machine: what Drive does not hold is prepared again, under the name that the run has recorded
    raise ParameterError(
        f"run.preparation is {choice.preparation!r}, but there is no such run in {context.data_dir}."
        + suggestion(given, known),
        "Expected the name of a run whose validation report, tokens and search are used.",
        "See 'kedro runs list' for the runs, or leave run.preparation out.",
    )


def announce_run(context: RunContext) -> None:
    """Log which run it is if it is not the one of that name, how to continue that one, and what is not used."""
    for text in (run_line(context), ignored_weights(context)):
        if text and text not in _announced:
            _announced.add(text)
            _log.info(text)


def run_line(context: RunContext, *, is_planned: bool = False) -> str:
    """Return which run a command works on if it is not the one of that name, and why; empty if it is.

    Args:
        context: The run.
        is_planned: Whether the command only shows what another one would do.
    """
    choice = context.run_choice
    if choice is None or choice.name == choice.stem or not choice.changes:
        return ""
    verb = ("start" if choice.is_new else "continue") if _takes_name(context) else "work on"
    # A run that is continued was chosen by an earlier command, which has said why.
    other = f", not {choice.stem}" if verb == "continue" else f"; {choice.stem} is another one"
    verb = f"Would {verb}" if is_planned else "Works on" if verb == "work on" else f"{verb.capitalize()}s"
    text = f"{verb} the run {choice.name}{other}: {_describe(choice)}. {remedy(context, choice)}"
    return text.rstrip()


def announce_catalog(context: RunContext) -> None:
    """Log which run the catalog of a notebook is of, if it is not the one of that name."""
    choice = context.run_choice
    if choice is None or choice.name == choice.stem or not choice.changes:
        return
    text = f"The catalog is of the run {choice.name}; {choice.stem} is another one: {_describe(choice)}."
    text = f"{text} {remedy(context, choice)}".rstrip()
    if text not in _announced:
        _announced.add(text)
        _log.info(text)


def keep_name(context: RunContext) -> None:
    """Take the name of the run for what this command makes.

    Raises:
        CheckpointError: If another process has just taken it.
    """
    if context.run_choice is not None and context.is_main_process and _takes_name(context):
        accept_run(context.run_choice, context.parameters)


def _takes_name(context: RunContext) -> bool:
    """Return whether the pipeline makes what is worth keeping: a training, a search or a comparison."""
    from transformer_foundry.datasets import ComparisonDataset

    return context.trains or context.study is not None or writes_dataset(context, ComparisonDataset)


def _describe(choice: RunChoice) -> str:
    # Another tokenizer may hold the same: without its folder, a run has noted no content to compare with.
    implied = "data.tokenizer_files" if "data.tokenizer" in choice.changes else None
    changes = [(name, values) for name, values in choice.changes.items() if name != implied]
    shown = [
        (_FILES | _CONTENTS).get(name, f"{name} was {before!r} and is {now!r}")
        for name, (before, now) in changes[:_MOST_CHANGES]
    ]
    left = len(changes) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def remedy(context: RunContext, choice: RunChoice) -> str:
    """Return the command that continues the run of that name, or if its files have changed, starts from its weights.

    Returns:
        Empty if there is no such command: this run has steps of its own, or ``start_from`` has none.
    """
    gone = [name for name in choice.changes if _is_gone(name, choice)]
    if gone:
        return start_from(context, choice) if choice.is_new else ""
    values: dict[str, Any] = {
        _SOURCES.get(name, name): choice.sources[_SOURCES[name]] if name in _SOURCES else before
        for name, (before, _) in choice.changes.items()
    }
    if context.options(TrainingOptions).use_best:
        # The values of the search would take the place of those that are given.
        values |= {"training.use_best": False, "run.name": choice.stem, "run.preparation": choice.preparation}
    return f"To continue {choice.stem}: {command_with(context, values)}"


def _refusal_remedy(command: str) -> str:
    beside = "rain another run beside it: run.on_change=new"
    return f"{command} (or t{beside})" if command else f"T{beside}."


def _is_gone(name: str, choice: RunChoice) -> bool:
    """Return whether no value of a parameter brings back what a run was started with."""
    return name in _CONTENTS or (name in _FILES and _SOURCES[name] not in choice.sources)
