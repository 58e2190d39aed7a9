"""Commands of the project: ``kedro run`` and the groups, which print expected errors without a traceback."""

from __future__ import annotations

import copy
import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from transformer_foundry.cli.checkpoints import checkpoints
from transformer_foundry.cli.doctor import doctor
from transformer_foundry.cli.hub import hub
from transformer_foundry.cli.models import models
from transformer_foundry.cli.runs import runs
from transformer_foundry.cli.tracking import tracking
from transformer_foundry.config.comparison_mode import compared_models, compared_pipelines
from transformer_foundry.console.expected_errors import expected_error
from transformer_foundry.console.sigterm import is_terminated, stop_at_termination
from transformer_foundry.console.status_line import LINE
from transformer_foundry.console.third_party import silence_third_parties
from transformer_foundry.core.base.errors import ParameterError, format_error, suggestion
from transformer_foundry.core.system.process import is_main_process
from transformer_foundry.hooks.kedro_hooks import report_interrupted

__all__ = ["cli", "readable_errors"]

EXIT_CODE_EXPECTED_ERROR = 2
EXIT_CODE_INTERRUPTED = 130
EXIT_CODE_TERMINATED = 143

_OPTIONS = {
    "pipelines": "Pipelines to run, separated by commas: validation, data_engineering, training, tuning, deployment. "
    "By default all except tuning run.",
    "pipeline": "Deprecated: use --pipelines.",
    "env": "Preset: standard or thorough, which train longer. The default is the quick preset.",
    "params": "Parameters as SECTION.NAME=VALUE, separated by commas; the documentation lists them "
    "(reference/parameters). Put parameters for every run into conf/local/parameters.yml.",
}
"""Help of ``kedro run`` options with a special meaning in this project; the others keep Kedro's."""

_EXAMPLES = """\b
Examples:
  kedro run
  kedro run --params model.source=my_export,data.source=reviews.csv
  kedro run --pipelines training --params training.max_steps=2000
  kedro run --env standard --params run.name=longer
"""

silence_third_parties()


def readable_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command`` with expected errors printed in at most three lines, with exit code 2.

    ``FOUNDRY_DEBUG=1`` in the environment keeps the traceback.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with stop_at_termination():
                return command(*args, **kwargs)
        except KeyboardInterrupt:
            LINE.end()
            event = "Terminated" if is_terminated() else "Stopped"
            click.echo(f"{event}. Run the same command again to resume from the last checkpoint.", err=True)
            sys.exit(EXIT_CODE_TERMINATED if is_terminated() else EXIT_CODE_INTERRUPTED)
        except Exception as error:  # An unexpected error keeps its traceback.
            expected = expected_error(error)
            if expected is None or os.environ.get("FOUNDRY_DEBUG"):
                raise
            click.echo(format_error(expected), err=True)
            sys.exit(EXIT_CODE_EXPECTED_ERROR)

    return wrapper


def _run(**options: Any) -> Any:
    requested = [options["pipeline"]] if options.get("pipeline") else list(options.get("pipelines") or [])
    _announce(requested, options.get("env"))
    known = sorted(name for name in pipelines if name != "__default__")
    _require_known(
        "pipeline", requested, known, "Use one of these names, or leave --pipelines out to run all except tuning."
    )
    if options.get("env"):
        presets = sorted(path.name for path in (Path.cwd() / "conf").glob("*") if path.is_dir())
        _require_known(
            "preset", [options["env"]], presets, "Use one of these names, or leave --env out for the quick preset."
        )
    source = Path(options.get("conf_source") or Path.cwd() / "conf")
    if compared_models(source, options.get("env"), options.get("params") or {}):
        requested = compared_pipelines(requested)
        options |= {"pipeline": None, "pipelines": requested}
    chosen = sum((pipelines[name] for name in requested or ["__default__"]), Pipeline([]))
    names = [name for key in ("node_names", "from_nodes", "to_nodes") for name in options.get(key) or []]
    _require_known("node", names, sorted(node.name for node in chosen.nodes), "Use one of these names.")
    assert kedro_run.callback is not None
    try:
        return kedro_run.callback(**options)
    except KeyboardInterrupt:
        report_interrupted()
        raise


def _announce(requested: Sequence[str], preset: str | None) -> None:
    """Print what starts: loading the libraries and the model takes seconds."""
    if is_main_process():
        names = ", ".join(requested) or "validation, data_engineering, training, deployment"
        LINE.print(f"Running {names}" + (f" with the preset {preset}." if preset else "."))


def _split_params(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
    """Parse ``--params`` as Kedro does, but do not split at commas within brackets: ``benchmark.models=[a,b]``."""
    from omegaconf import OmegaConf

    if isinstance(value, dict) or not value:
        return value or {}
    items = [item.strip() for item in re.split(r",(?![^\[\]]*\])", value) if item.strip()]
    for item in items:
        if not item.partition("=")[0].strip() or "=" not in item:
            raise click.BadParameter(f"{item!r} is not of the form SECTION.NAME=VALUE.")
    pairs = [item.partition("=") for item in items]
    return OmegaConf.to_container(OmegaConf.from_dotlist([f"{key.strip()}={text}" for key, _, text in pairs]))


def _require_known(kind: str, names: Sequence[str], known: Sequence[str], remedy: str) -> None:
    for name in names:
        if name not in known:
            raise ParameterError(
                f"There is no {kind} named {name!r}.{suggestion(name, known)}",
                f"Known: {', '.join(known)}.",
                remedy,
            )


@click.group(name="transformer-foundry")
def cli() -> None:
    """Transformer Foundry: start with kedro doctor, then kedro run."""


run = copy.copy(kedro_run)
run.callback = readable_errors(_run)
run.help = "Run the pipelines validation, data_engineering, training and deployment, or those in --pipelines."
run.short_help = "Run the pipelines."
run.epilog = _EXAMPLES
run.params = [copy.copy(parameter) for parameter in run.params]
for parameter in run.params:
    if isinstance(parameter, click.Option):
        parameter.help = _OPTIONS.get(parameter.name or "", parameter.help)
    if parameter.name == "params":
        parameter.callback = _split_params
cli.add_command(run, "run")

assert doctor.callback is not None
doctor.callback = readable_errors(doctor.callback)
cli.add_command(doctor)

for group in (checkpoints, hub, models, runs, tracking):
    for command in group.commands.values():
        assert command.callback is not None
        command.callback = readable_errors(command.callback)
    cli.add_command(group)
