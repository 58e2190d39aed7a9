"""Commands that list and compare training runs: ``kedro runs``."""

from __future__ import annotations

import contextlib
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transformer_foundry.cli.tables import show_line, show_table, text_of
from transformer_foundry.console.params_text import merge_params, parse_params
from transformer_foundry.console.program import with_program

if TYPE_CHECKING:
    from transformer_foundry.config.storage import Storage
    from transformer_foundry.core.training.checkpointing.run_manifest import RunSummary

__all__ = ["require_contained_run", "run_folder", "runs", "storage_options"]


def _read_params(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values:
        merged = merge_params(merged, parse_params(value))
    return merged


_OPTIONS = (
    click.option("--data-dir", default=None, help="Root folder of all output; by default data_dir of conf/."),
    click.option("--env", "-e", default=None, help="Environment of the configuration, a folder of conf/."),
    click.option("--params", multiple=True, callback=_read_params, help="Parameters, as those of kedro run."),
    click.option("--conf-source", type=click.Path(exists=True), help="Folder or archive of the configuration."),
)


def storage_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``storage``: where the configuration that its options name keeps runs and the registry."""

    @functools.wraps(command)
    def wrapper(
        *arguments: Any,
        data_dir: str | None,
        env: str | None,
        params: Mapping[str, Any],
        conf_source: str | None,
        **options: Any,
    ) -> None:
        from transformer_foundry.config.storage import configured_storage

        command(*arguments, storage=configured_storage(data_dir, env, params, conf_source), **options)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


_COLUMNS: dict[str, Callable[[RunSummary], Any]] = {
    "run": lambda run: run.name,
    "step": lambda run: run.step,
    "of": lambda run: run.total_steps,
    "sessions": lambda run: run.sessions,
    "train_loss": lambda run: run.train_loss,
    "best_eval": lambda run: run.best_eval_loss,
    "started": lambda run: run.started_at,
    "model": lambda run: run.model,
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|!=|=|<|>|~)\s*(.*?)\s*")


@click.group(short_help="List runs, compare two of them.")
def runs() -> None:
    """List the training runs, or compare two of them."""


@runs.command("list")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only runs with a column or parameter of that value: best_eval<3, training.learning_rate=0.001, model~gpt "
    "(contains); also <=, >, >=, !=. May be given several times.",
)
@click.option("--sort", "name", default="started", show_default=True, metavar="NAME", help="Column or parameter.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the N that were started last.")
@storage_options
def list_runs_command(conditions: tuple[str, ...], name: str, last: int | None, storage: Storage) -> None:
    """List runs with their steps and losses."""
    from transformer_foundry.core.training.checkpointing.run_manifest import list_runs

    found = list_runs(storage.runs())
    if not found:
        show_line(with_program(f"No runs in {storage.folder} yet. 'kedro run' creates one."))
        return
    for condition in conditions:
        found = _fitting(condition, found)
    found = found[-(last or 0) :]
    if not found:
        show_line(f"No run fits {' and '.join(conditions)}.")
        return
    shown = _COLUMNS | ({} if name in _COLUMNS else {name: lambda run: _parameter(run, name)})
    values = _values(name, found)
    order = sorted(range(len(found)), key=lambda index: _sort_key(values[index]))
    rows = [tuple(column if "." in column else column.replace("_", " ") for column in shown)]
    rows += [tuple(_cell(column, value(found[index])) for column, value in shown.items()) for index in order]
    show_table(rows)


def _values(name: str, found: Sequence[RunSummary]) -> list[Any]:
    """Return the values of a column or a parameter, None where a run has none.

    Raises:
        ParameterError: If no run has it; names the nearest one.
    """
    from transformer_foundry.core.base.errors import ParameterError, suggestion

    values = [_COLUMNS[name](run) if name in _COLUMNS else _parameter(run, name) for run in found]
    if name not in _COLUMNS and all(value is None for value in values):
        known = [*_COLUMNS, *{f"{section}.{key}" for run in found for section, key in _parameter_names(run)}]
        raise ParameterError(
            f"No run has {name!r}.{suggestion(name, known)}",
            f"Expected a column ({', '.join(_COLUMNS)}) or a parameter like training.learning_rate.",
            "Correct the name.",
        )
    return values


def _fitting(condition: str, found: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs that fulfil a condition.

    Raises:
        ParameterError: If it is none, or no run has what it names.
    """
    from transformer_foundry.core.base.errors import ParameterError

    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ParameterError(
            f"{condition!r} is no condition.",
            "Expected a name, one of = != < <= > >= ~, and a value.",
            "Write for example --where 'best_eval<3'; quote it, or the shell takes < and > for files.",
        )
    name, sign, wanted = match.groups()
    values = _values(name, found) if found else []
    return [run for run, value in zip(found, values, strict=True) if _holds(value, sign, wanted)]


def _holds(value: Any, sign: str, wanted: str) -> bool:
    if value is None:
        return sign == "!="
    if sign == "~":
        return wanted in str(value)
    with contextlib.suppress(ValueError):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _OPERATORS[sign](value, float(wanted))
    return _OPERATORS[sign](str(value).lower(), wanted.lower())


def _sort_key(value: Any) -> tuple[int, float, str]:
    """Sort numbers before texts, and what is missing to the end."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


def _parameter(run: RunSummary, name: str) -> Any:
    section, _, key = name.partition(".")
    values = run.parameters.get(section)
    return values.get(key) if isinstance(values, Mapping) else None


def _parameter_names(run: RunSummary) -> Iterator[tuple[str, str]]:
    for section, values in run.parameters.items():
        yield from ((section, key) for key in values) if isinstance(values, Mapping) else ()


def _cell(column: str, value: Any) -> str:
    return _number(value) if column in ("train_loss", "best_eval") else text_of(value)


@runs.command(short_help="Show the differences between two runs.")
@click.argument("first")
@click.argument("second")
@storage_options
def compare(first: str, second: str, storage: Storage) -> None:
    """Show the differences between two runs, and whether their results are bit-for-bit identical."""
    from transformer_foundry.core.training.checkpointing.run_manifest import (
        compare_manifests,
        is_same_result,
        read_run_manifest,
        summarize_run,
    )

    folders = [run_folder(name, storage) for name in (first, second)]
    manifests = [read_run_manifest(folder) for folder in folders]
    for name, (before, now) in compare_manifests(*manifests).items():
        show_line(f"{name}: {before} | {now}")
    summaries = [summarize_run(folder) for folder in folders]
    show_line(f"train loss: {' | '.join(_number(run.train_loss) for run in summaries)}")
    show_line(f"best eval loss: {' | '.join(_number(run.best_eval_loss) for run in summaries)}")
    verdict = {True: "bit-for-bit identical", False: "different", None: "unknown: a run has not finished"}
    show_line(f"final weights and optimizer: {verdict[is_same_result(*manifests)]}")


def run_folder(run: str, storage: Storage) -> Path:
    """Return the folder of ``run``.

    Raises:
        CheckpointError: If there is none; names the nearest one.
        DataError: If a link leads out of it, or out of its reports.
    """
    from transformer_foundry.core.base.errors import CheckpointError, suggestion

    folder = storage.run(run)
    if not folder.is_dir():
        known = sorted(path.name for path in storage.runs())
        raise CheckpointError(
            f"There is no run named {run!r} in {storage.folder}.{suggestion(run, known)}",
            f"Known: {', '.join(known) or 'none'}.",
            "Use one of these names, or set another root with --data-dir.",
        )
    require_contained_run(run, storage)
    return folder


def require_contained_run(run: str, storage: Storage) -> None:
    """Refuse a run if a link leads out of its folder or its reports: they may come from someone else.

    Raises:
        DataError: Naming the link and its target.
    """
    from transformer_foundry.core.files.plain_files import require_contained
    from transformer_foundry.core.files.run_paths import RunPaths

    root = Path(storage.data_dir)
    for folder in (storage.run(run), RunPaths.under(root, run).reports):
        require_contained(folder, root)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
