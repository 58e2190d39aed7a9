"""The command ``kedro plan``: it refuses what ``kedro run`` with the same options refuses, and runs nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import click
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from transformer_foundry.cli.plan.stages import plan_stages
from transformer_foundry.cli.run_selection import check_selection, make_runner
from transformer_foundry.cli.tables import show_line, show_table

if TYPE_CHECKING:
    from transformer_foundry.hooks import KedroHooks

__all__ = ["make_plan_command"]

_FILTERS = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs")


def make_plan_command(parameters: Iterable[click.Parameter]) -> click.Command:
    """Return the command, which takes the options of ``kedro run``."""
    return click.Command(
        "plan",
        params=list(parameters),
        callback=_plan,
        help="Show what 'kedro run' with the same options would run and reuse, and why. Writes nothing.",
        short_help="Show what a run would do.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _plan(**options: Any) -> None:
    from kedro.framework.project import pipelines, settings
    from kedro.framework.session import KedroSession
    from kedro.io import SharedMemoryDataCatalog
    from kedro.runner import ParallelRunner

    from transformer_foundry.hooks import KedroHooks

    check_selection(options)
    names = [options["pipeline"]] if options.get("pipeline") else list(options.get("pipelines") or ["__default__"])
    logging.disable(logging.WARNING)
    try:
        with KedroSession.create(
            env=options.get("env"), conf_source=options.get("conf_source"), runtime_params=options.get("params")
        ) as session:
            context = cast("KedroSession", session).load_context()
            runner = make_runner(options)
            kind = SharedMemoryDataCatalog if isinstance(runner, ParallelRunner) else settings.DATA_CATALOG_CLASS
            found = context._get_catalog(catalog_class=kind, load_versions=options.get("load_versions") or None)
            catalog = cast("DataCatalog", found)
            chosen = sum((pipelines[name] for name in names), Pipeline([]))
            filters = {name: options.get(name) for name in _FILTERS}
            chosen = chosen.filter(**filters, node_namespaces=options.get("namespaces"))
            given = [] if names == ["__default__"] else names
            hooks = next((item for item in settings.HOOKS if isinstance(item, KedroHooks)), None)
            line = _check(chosen, catalog, context, {**options, "runner": str(runner), "pipeline_names": given}, hooks)
            running = _missing(chosen, catalog) if options.get("only_missing_outputs") else chosen
            rows = plan_stages(chosen, running, catalog, context.params, supplies_earlier=hooks is not None)
    finally:
        logging.disable(logging.NOTSET)
    if line:
        show_line(line)
    show_table([("stage", "", "why"), *rows])


def _check(
    chosen: Pipeline, catalog: DataCatalog, context: Any, run_params: Mapping[str, Any], hooks: KedroHooks | None
) -> str:
    """Refuse what the hooks and the runner refuse before the first node; return which run it is if another one."""
    from transformer_foundry.hooks.kedro_hooks.free_inputs import complete_inputs
    from transformer_foundry.hooks.preflight.chosen_run import run_line
    from transformer_foundry.hooks.run_context import make_run_contexts

    line = ""
    if hooks is not None:
        complete_inputs(chosen, catalog)
        runs = make_run_contexts(context.config_loader, run_params, chosen, catalog, context.project_path)
        for run in runs:
            hooks.check(run)
        line = run_line(runs[0], is_planned=True)
    for name in sorted(chosen.datasets()):
        catalog.get(name, fallback_to_runtime_pattern=True)
    return line


def _missing(chosen: Pipeline, catalog: DataCatalog) -> Pipeline:
    """Return the nodes that ``--only-missing-outputs`` leaves: Kedro has no other way to ask for them."""
    from kedro.runner import SequentialRunner

    from transformer_foundry.hooks.kedro_hooks.registered_package import follow_packages

    follow_packages(chosen, catalog)
    return SequentialRunner()._filter_pipeline_for_missing_outputs(chosen, catalog)
