"""Commands that list and compare training runs: ``kedro runs``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transformer_foundry.cli.tables import show_line, show_table, text_of
from transformer_foundry.console.params_text import merge_params, parse_params
from transformer_foundry.console.program import with_program

if TYPE_CHECKING:
    from transformer_foundry.config.storage import Storage

__all__ = ["run_folder", "runs", "storage_options"]


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


@click.group(short_help="List runs, compare two of them.")
def runs() -> None:
    """List the training runs, or compare two of them."""


@runs.command("list")
@storage_options
def list_runs_command(storage: Storage) -> None:
    """List all runs with their steps and losses."""
    from transformer_foundry.core.training.checkpointing.run_manifest import list_runs

    found = list_runs(storage.runs())
    if not found:
        show_line(with_program(f"No runs in {storage.folder} yet. 'kedro run' creates one."))
        return
    rows = [("run", "step", "of", "sessions", "train loss", "best eval", "started", "model")]
    rows += [
        (
            run.name,
            text_of(run.step),
            text_of(run.total_steps),
            str(run.sessions),
            _number(run.train_loss),
            _number(run.best_eval_loss),
            run.started_at,
            run.model,
        )
        for run in found
    ]
    show_table(rows)


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
    return folder


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
